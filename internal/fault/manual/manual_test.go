package manual

import (
	"os"
	"testing"
)

func TestTheDocumentOfErrorsIsUpToDate(t *testing.T) {
	have, err := os.ReadFile("../../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	if Markdown() != string(have) {
		t.Error("docs/errors.md is not what the program says: go generate ./internal/fault/manual")
	}
}

func TestEveryKindIsExplained(t *testing.T) {
	for _, k := range Kinds() {
		if e := Of(k); e.Means == "" || e.Todo == "" {
			t.Errorf("%s: %+v", k, e)
		}
	}
}
