package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that Linux and macOS give to outgoing connections (from 32768 and 49152),
// so that no connection of another program takes one between its choice and its use.
const lowestPort, highestPort = 12000, 32000

// freePorts returns n different TCP ports of 127.0.0.1 on which nothing listens.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	var listen net.ListenConfig
	ports := make([]int, 0, n)
	for range 100 * n {
		if len(ports) == n {
			return ports, nil
		}
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		l, err := listen.Listen(ctx, "tcp", loopback(port))
		if err != nil {
			continue
		}
		held = append(held, l)
		ports = append(ports, port)
	}
	if len(ports) == n {
		return ports, nil
	}
	return nil, fmt.Errorf("finding %d free ports between %d and %d on loopback: found %d", n, lowestPort, highestPort, len(ports))
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
