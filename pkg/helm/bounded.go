package helm

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// bounded refuses responses of more than maxDownload bytes.
type bounded struct{ next http.RoundTripper }

// RoundTrip sends the request and bounds what comes back.
func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.ContentLength > maxDownload {
		tooMuch := fmt.Errorf("%s sends %d bytes, more than any chart has", request.URL.Host, response.ContentLength)
		return nil, errors.Join(tooMuch, response.Body.Close())
	}
	response.Body = &boundedBody{response.Body, maxDownload, request.URL.Host}
	return response, nil
}

// boundedBody fails once more was read than left allows: an end that comes too
// early would look like a broken archive.
type boundedBody struct {
	io.ReadCloser
	left int64
	host string
}

// Read reads what is allowed.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%s sends more than %d bytes, more than any chart has", b.host, maxDownload)
	}
	return n, err
}
