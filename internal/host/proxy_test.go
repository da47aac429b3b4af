package host

import (
	"os"
	"testing"
)

func TestTheEnvironmentsProxyWinsOverTheSpecs(t *testing.T) {
	for _, name := range append(proxyVariables, "NO_PROXY") {
		t.Setenv(name, "") // puts back what was there
		os.Unsetenv(name)
	}
	spec := []string{"HTTPS_PROXY=http://spec:3128", "NO_PROXY=a,b"}
	t.Setenv("https_proxy", "http://machine:3128")
	if err := SetProxy(spec); err != nil || os.Getenv("HTTPS_PROXY") != "" || os.Getenv("NO_PROXY") != "" {
		t.Errorf("beside the machine's proxy: %v, %q, %q", err, os.Getenv("HTTPS_PROXY"), os.Getenv("NO_PROXY"))
	}
	os.Unsetenv("https_proxy")
	if err := SetProxy(spec); err != nil || os.Getenv("HTTPS_PROXY") != "http://spec:3128" || os.Getenv("NO_PROXY") != "a,b" {
		t.Errorf("without one: %v, %q, %q", err, os.Getenv("HTTPS_PROXY"), os.Getenv("NO_PROXY"))
	}
}
