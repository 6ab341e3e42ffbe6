package lab

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CreateVolumes makes n PersistentVolumes of a size such as "1Gi", because nothing provisions what claims ask for. Claims without a
// storage class are bound to them. Their host path is data: nobody makes it.
func (c *Cluster) CreateVolumes(ctx context.Context, n int, size string) error {
	capacity, err := resource.ParseQuantity(size)
	if err != nil {
		return fmt.Errorf("creating volumes of size %q: %w", size, err)
	}
	for range n {
		volume := &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "lab-"},
			Spec: corev1.PersistentVolumeSpec{
				Capacity:                      corev1.ResourceList{corev1.ResourceStorage: capacity},
				AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
				PersistentVolumeSource: corev1.PersistentVolumeSource{
					HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"},
				},
			},
		}
		if _, err := c.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating a volume: %w", err)
		}
	}
	return nil
}
