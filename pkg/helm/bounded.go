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
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxDownload), response.Body}
	return response, nil
}
