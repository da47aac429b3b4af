package vmtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestReportIsReadUpToItsLastLine(t *testing.T) {
	many := &strings.Builder{}
	for i := range maxChecks + 1 {
		fmt.Fprintf(many, `{"id":"check.%d","status":"pass"}`+"\n", i)
	}
	tests := []struct {
		name, in string
		want     []Check
		err      string // part of it; "" for none
	}{
		{"checks and end", `{"id":"a.b-c","status":"pass","evidence":"one"}` + "\n" + `{"id":"d","status":"fail"}` + "\n" + `{"done":true}` + "\n",
			[]Check{{"a.b-c", Pass, "one"}, {"d", Fail, ""}}, ""},
		{"what follows the end is not read", `{"done":true}` + "\n" + `rubbish`, nil, ""},
		{"no end", `{"id":"a","status":"pass"}` + "\n", []Check{{"a", Pass, ""}}, errNoEnd.Error()},
		{"guest dies within a line", `{"id":"a","status":"pass"}` + "\n" + `{"id":"b","sta`, []Check{{"a", Pass, ""}}, errNoEnd.Error()},
		{"empty", "", nil, errNoEnd.Error()},
		{"no JSON", "hello\x1b[31m\n", nil, `the guest sent "hello[31m"`},
		{"no object", "[]\n", nil, "no line of a report"},
		{"bad id", `{"id":"../../x","status":"pass"}` + "\n", nil, `check "../../x"`},
		{"no id", "{}\n", nil, `check ""`},
		{"unknown status", `{"id":"a","status":"maybe"}` + "\n", nil, `status "maybe"; want "pass" or "fail"`},
		{"twice", strings.Repeat(`{"id":"a","status":"pass"}`+"\n", 2), []Check{{"a", Pass, ""}}, "check a twice"},
		{"too long a line", strings.Repeat("x", maxLine+1) + "\n", nil, "a line of more than 65536 bytes"},
		{"terminal sequences in evidence", `{"id":"a","status":"pass","evidence":"x\u001b]0;title\u0007\ny"}` + "\n" + `{"done":true}` + "\n",
			[]Check{{"a", Pass, "x]0;title y"}}, ""},
		{"too many", many.String(), nil, "more than 256 checks"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []Check
			err := readReport(strings.NewReader(tt.in), func(c Check) { got = append(got, c) })
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if tt.name != "too many" && !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzReport(f *testing.F) {
	f.Add(`{"id":"a","status":"pass","evidence":"\u001b[2J"}` + "\n" + `{"done":true}` + "\n")
	f.Add("{}\n[]\nnull\n")
	f.Add(`{"id":"a","status":"pass","evidence":"` + "\xff\xfe" + `"}` + "\n")
	f.Fuzz(func(t *testing.T, in string) {
		n := 0
		err := readReport(strings.NewReader(in), func(c Check) {
			n++
			if !checkID.MatchString(c.ID) || c.Status != Pass && c.Status != Fail {
				t.Errorf("bad check %+v", c)
			}
			if utf8.RuneCountInString(c.Evidence) > maxEvidence+3 {
				t.Errorf("evidence of %d characters", utf8.RuneCountInString(c.Evidence))
			}
			if strings.ContainsFunc(c.Evidence, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("evidence %q does not print", c.Evidence)
			}
		})
		if n > maxChecks {
			t.Errorf("%d checks", n)
		}
		if err == nil && !strings.Contains(in, "done") && !strings.Contains(strings.ToLower(in), "done") && !strings.Contains(in, `\u`) {
			t.Errorf("no error without an end")
		}
		if err != nil && !errors.Is(err, errNoEnd) && strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("error %q would reach the terminal", err)
		}
	})
}
