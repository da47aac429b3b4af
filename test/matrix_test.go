//go:build all

package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/report"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// What make test-all builds: every operating system with every Kubernetes.
var (
	matrixReleases   = []string{"12", "13"}
	matrixKubernetes = []string{"v1.34.0", "v1.35.0", "v1.36.4", "v1.37.2"}
)

// osStep and kubernetesStep match the expensive steps that images share.
var (
	osStep         = regexp.MustCompile(`^os: configure`)
	kubernetesStep = regexp.MustCompile(`^kubernetes: compile kubernetes `)
)

// M x N images cost M + N builds, and each of them holds the contract and boots.
func TestEveryKubernetesOnEveryOS(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "qemu-system-x86_64", "qemu-img")
	systems, versions := map[string]int{}, map[string]int{}
	for _, release := range matrixReleases {
		for _, version := range matrixKubernetes {
			t.Run("debian-"+release+"-"+version, func(t *testing.T) {
				dir := t.TempDir()
				start := time.Now()
				built := must(t, "build", "-f", example, "-o", dir, "--progress", "json",
					"--set", "spec.os.version="+release, "--set", "spec.kubernetes.version="+version)
				t.Logf("built in %.0f s", time.Since(start).Seconds())
				for _, step := range stepsRun(t, built.err) {
					switch {
					case osStep.MatchString(step):
						systems[release]++
					case kubernetesStep.MatchString(step):
						versions[version]++
					}
				}
				proveMatrixImage(t, strings.TrimSpace(built.out), version)
				if err := os.RemoveAll(dir); err != nil { // before the next image needs the room
					t.Error(err)
				}
			})
		}
	}
	for what, ran := range map[string]map[string]int{"Debian": systems, "Kubernetes": versions} {
		for name, times := range ran {
			if times > 1 {
				t.Errorf("%s %s was built %d times", what, name, times)
			}
		}
	}
	t.Logf("the OS step ran %d times, the Kubernetes step %d times", len(systems), len(versions))
}

// proveMatrixImage checks an image against the contract, and boots it.
func proveMatrixImage(t *testing.T, image, version string) {
	checked := must(t, "verify", image, "--level", "contract", "--strict", "--json")
	var static report.Verification
	if err := json.Unmarshal([]byte(checked.out), &static); err != nil {
		t.Fatal(err)
	}
	if static.Image.Kubernetes != version {
		t.Errorf("%s holds Kubernetes %s, want %s", filepath.Base(image), static.Image.Kubernetes, version)
	}
	start := time.Now()
	booted := must(t, "verify", image, "--level", "boot", "--firmware", "uefi", "--json", "--deadline", "15m")
	var boots report.Verification
	if err := json.Unmarshal([]byte(booted.out), &boots); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d checks of the contract passed; booted and reported in %.0f s", static.Counts()[contract.Passed], time.Since(start).Seconds())
}
