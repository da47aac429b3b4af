package pipeline

import (
	"slices"
	"testing"
	"testing/fstest"

	"nodesmith.dev/nodesmith/internal/node"
)

func TestSettingsOfTheSpecReachTheNode(t *testing.T) {
	proxy := &fstest.MapFile{Data: []byte(exampleCertificate)}
	context := fstest.MapFS{"ca.pem": proxy}
	inputs := inputsOf(t, `  kernelModules: [nbd]
  ntpServers: [ntp.example.org]
  timeZone: Europe/Berlin
  systemdUnits:
    - {name: a.service, content: "[Install]\nWantedBy=multi-user.target\n", enable: true}
    - {name: ssh.service, dropIns: [{name: b.conf, content: "[Service]\n"}]}
    - {name: c.timer, mask: true}
  caCertificates: [{name: proxy, source: ca.pem}]
`, context)
	config, _, err := inputs.config(context)
	if err != nil {
		t.Fatal(err)
	}
	if err := config.Validate(); err != nil {
		t.Error(err)
	}
	if !slices.Equal(config.KernelModules, []string{"nbd"}) || config.TimeZone != "Europe/Berlin" ||
		!slices.ContainsFunc(config.Cuts, func(c node.Cut) bool { return c.Path == "/etc/chrony/chrony.conf" }) {
		t.Errorf("modules %q, zone %q, cuts %v", config.KernelModules, config.TimeZone, config.Cuts)
	}
	for path, want := range map[string]string{
		"/etc/chrony/sources.d/nodesmith.sources":  "server ntp.example.org iburst\n",
		"/etc/systemd/system/a.service":            "[Install]\nWantedBy=multi-user.target\n",
		"/etc/systemd/system/ssh.service.d/b.conf": "[Service]\n",
	} {
		if got := file(t, config, path).Content; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if !slices.Contains(config.Units.Enable, "a.service") || !slices.Contains(config.Units.Mask, "c.timer") || slices.Contains(config.Units.Enable, "c.timer") {
		t.Errorf("units %+v", config.Units)
	}
	want := node.Certificate{Name: "proxy", PEM: exampleCertificate, SubjectHash: "c790dc54"}
	if got := config.Trust.Certificates; len(got) != 1 || got[0] != want {
		t.Errorf("certificates %+v", got)
	}
}

// exampleCertificate is examples/example-proxy.pem; its key was thrown away.
const exampleCertificate = `-----BEGIN CERTIFICATE-----
MIIBcTCCASOgAwIBAgIUE0GJE6dePPIpOdVKRNA7U7V+uEwwBQYDK2VwMC0xEDAO
BgNVBAoMB0V4YW1wbGUxGTAXBgNVBAMMEEV4YW1wbGUgUHJveHkgQ0EwIBcNMjYx
MTIzMTMzMDI1WhgPMjEyNjEwMzAxMzMwMjVaMC0xEDAOBgNVBAoMB0V4YW1wbGUx
GTAXBgNVBAMMEEV4YW1wbGUgUHJveHkgQ0EwKjAFBgMrZXADIQBUkKruWSiRCLS0
BYh1LYLxfNeJkhcwwPfBRF23aF/YOaNTMFEwHQYDVR0OBBYEFKGIOk3OFtOkq/kG
pLMZFkag/9a1MB8GA1UdIwQYMBaAFKGIOk3OFtOkq/kGpLMZFkag/9a1MA8GA1Ud
EwEB/wQFMAMBAf8wBQYDK2VwA0EAky3PLVVYfVt7AXJ7QrI0SkDrYwguoDItnN8d
mH6RE53lbgI1TOI8VdS8Lu+GOTwFtDCfrXHV0vDj0SU8N5zSAA==
-----END CERTIFICATE-----
`
