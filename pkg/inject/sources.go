package inject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Source is one place that manifests come from.
type Source struct {
	Name string
	Open func(context.Context) (io.ReadCloser, error)
}

// Sources resolves what `-f` was given, in its order: files, folders (their
// .yaml, .yml and .json files by name; those of folders below with recursive),
// http(s) URLs, and "-" for stdin, which may be given once. client is for URLs.
// It errors on a file that is not there and on a folder without manifests.
func Sources(names []string, recursive bool, stdin io.Reader, client *http.Client) ([]Source, error) {
	var sources []Source
	usedStdin := false
	for _, name := range names {
		switch {
		case name == "-":
			if usedStdin {
				return nil, errors.New("stdin (-) is given twice")
			}
			usedStdin = true
			sources = append(sources, Source{"stdin", func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(stdin), nil
			}})
		case strings.HasPrefix(name, "http://"), strings.HasPrefix(name, "https://"):
			sources = append(sources, urlSource(name, client))
		default:
			found, err := fileSources(name, recursive)
			if err != nil {
				return nil, err
			}
			sources = append(sources, found...)
		}
	}
	return sources, nil
}

func fileSource(name string) Source {
	return Source{name, func(context.Context) (io.ReadCloser, error) { return os.Open(name) }}
}

func fileSources(name string, recursive bool) ([]Source, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the manifests: %w", err)
	}
	if !info.IsDir() {
		return []Source{fileSource(name)}, nil
	}
	var sources []Source
	err = filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("cannot read the manifests: %w", err)
		case entry.IsDir() && path != name && !recursive:
			return filepath.SkipDir
		case !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)):
			sources = append(sources, fileSource(path))
		}
		return nil
	})
	if err == nil && len(sources) == 0 {
		err = fmt.Errorf("%s holds no .yaml, .yml or .json file; give -R to look into the folders below", name)
	}
	return sources, err
}

// unwrapURL takes the URL off an error that is about to be named anyway.
func unwrapURL(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		return urlErr.Err
	}
	return err
}

func urlSource(address string, client *http.Client) Source {
	return Source{address, func(ctx context.Context) (io.ReadCloser, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", address, err)
		}
		response, err := client.Do(request)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w; can it be reached from here?", address, unwrapURL(err))
		}
		if response.StatusCode != http.StatusOK {
			_ = response.Body.Close()
			return nil, fmt.Errorf("cannot read %s: the server answered %s", address, response.Status)
		}
		return response.Body, nil
	}}
}
