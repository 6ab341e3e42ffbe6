package plugin

import (
	"fmt"
	"net/http"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// connectionFlags says whether a kubeconfig flag is given that istioctl has not: it
// knows --kubeconfig and --context alone.
func connectionFlags(f *genericclioptions.ConfigFlags) bool {
	for _, value := range []*string{
		f.ClusterName, f.AuthInfoName, f.APIServer, f.TLSServerName, f.CertFile, f.KeyFile, f.CAFile,
		f.BearerToken, f.Impersonate, f.ImpersonateUID, f.Username, f.Password, f.ProxyURL,
	} {
		if value != nil && *value != "" {
			return true
		}
	}
	return f.Insecure != nil && *f.Insecure || f.ImpersonateGroup != nil && len(*f.ImpersonateGroup) > 0
}

// resolvedKubeconfig writes down the connection that the flags and the user's
// kubeconfig make together, as a kubeconfig.
func resolvedKubeconfig(f *genericclioptions.ConfigFlags) ([]byte, error) {
	c, err := f.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	out, err := kubeconfigOf(c)
	if err != nil {
		return nil, fmt.Errorf("make a kubeconfig for istioctl: %w", err)
	}
	return out, nil
}

func kubeconfigOf(c *rest.Config) ([]byte, error) {
	const name = "istio-upgrade"
	server := &api.Cluster{
		Server: c.Host, TLSServerName: c.ServerName, InsecureSkipTLSVerify: c.Insecure,
		CertificateAuthority: c.CAFile, CertificateAuthorityData: c.CAData, DisableCompression: c.DisableCompression,
	}
	if c.Proxy != nil {
		request, err := http.NewRequest(http.MethodGet, c.Host, nil) //nolint:noctx // it is not sent: it asks for the proxy
		if err != nil {
			return nil, err
		}
		proxy, err := c.Proxy(request)
		if err != nil {
			return nil, err
		}
		if proxy != nil {
			server.ProxyURL = proxy.String()
		}
	}
	user := &api.AuthInfo{
		ClientCertificate: c.CertFile, ClientCertificateData: c.CertData, ClientKey: c.KeyFile, ClientKeyData: c.KeyData,
		Token: c.BearerToken, TokenFile: c.BearerTokenFile, Username: c.Username, Password: c.Password,
		Impersonate: c.Impersonate.UserName, ImpersonateUID: c.Impersonate.UID, ImpersonateGroups: c.Impersonate.Groups,
		ImpersonateUserExtra: c.Impersonate.Extra, AuthProvider: c.AuthProvider, Exec: c.ExecProvider,
	}
	if len(user.ClientCertificateData) > 0 { // the flags' files win in a rest.Config, the data in a kubeconfig
		user.ClientCertificate = ""
	}
	config := api.NewConfig()
	config.Clusters[name], config.AuthInfos[name] = server, user
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.Write(*config)
}
