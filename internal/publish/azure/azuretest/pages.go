package azuretest

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what Put Page's Content-MD5 is
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
)

// maxPut is the most that a Put Page takes, in bytes.
const maxPut = 4 << 20

// pages holds a request that writes pages against the rules that Azurite does not
// check: the MD5 of the body, and its size. The body is put back.
func (r *Resources) pages(request *http.Request) {
	if request.Method != http.MethodPut || request.URL.Query().Get("comp") != "page" || request.Header.Get("X-Ms-Page-Write") != "update" {
		return
	}
	body, err := io.ReadAll(request.Body)
	request.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), after{err}))
	if err != nil {
		return // cut off: Azure does not get it either
	}
	sum := md5.Sum(body) //nolint:gosec // see the import
	switch {
	case request.Header.Get("Content-MD5") != base64.StdEncoding.EncodeToString(sum[:]):
		r.note("the MD5 of " + request.Header.Get("X-Ms-Range") + " is not that of its body")
	case len(body) == 0 || len(body) > maxPut || len(body)%512 != 0:
		r.note(fmt.Sprintf("%d bytes are written at once", len(body)))
	}
	if bytes.Count(body, []byte{0}) == len(body) {
		r.note("only zeros are written at " + request.Header.Get("X-Ms-Range"))
	}
}

// after ends a body as it ended when it was read.
type after struct{ err error }

func (a after) Read([]byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	return 0, io.EOF
}
