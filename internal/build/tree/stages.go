package tree

import "strings"

// The stages of a build, in the order in which data flows through them. Lock
// and formats are not of the graph alone.
const (
	StageLock       = "lock"
	StageTools      = "tools"
	StageOS         = "os"
	StageKubernetes = "kubernetes"
	StageImages     = "images"
	StageNode       = "node"
	StageDisk       = "disk"
	StageFormats    = "formats"
)

// Stages lists them.
func Stages() []string {
	return []string{StageLock, StageTools, StageOS, StageKubernetes, StageImages, StageNode, StageDisk, StageFormats}
}

// stages says to which stage a step or an input belongs, by how its title begins;
// the first that fits counts. What begins with an infrastructure's name comes last.
var stages = []struct{ begin, contain, stage string }{
	{begin: "step-"},
	{begin: "configuration: "},
	{begin: "apt: ", stage: StageLock},
	{begin: "solve packages", stage: StageLock},
	{begin: "tools: ", stage: StageTools},
	{begin: "unpack xz", stage: StageTools},
	{begin: "os: ", stage: StageOS},
	{begin: "packages: ", stage: StageOS},
	{begin: "scripts: ", contain: "(beforePackages)", stage: StageOS},
	{begin: "scripts: ", stage: StageNode},
	{begin: "container image base: ", stage: StageImages},
	{begin: "kubernetes: container images", stage: StageImages},
	{begin: "kubernetes: ask kubeadm", stage: StageImages},
	{begin: "kubernetes: ", stage: StageKubernetes},
	{begin: "unpack the Go toolchain", stage: StageKubernetes},
	{begin: "Go toolchain", stage: StageKubernetes},
	{contain: " modules", stage: StageKubernetes},
	{begin: "container image: ", stage: StageImages},
	{begin: "package indices", stage: StageLock},
	{begin: "the spec's files", stage: StageNode},
	{begin: "node: ", stage: StageNode},
	{contain: ": packages", stage: StageNode},
	{contain: ": assemble disk", stage: StageDisk},
	{contain: ": pack disk", stage: StageDisk},
	{begin: "export the cache", stage: StageFormats},
}

// StageOf returns the stage of the step or input with that title; "" for what is none of
// this package's.
func StageOf(title string) string {
	for _, s := range stages {
		if strings.HasPrefix(title, s.begin) && strings.Contains(title, s.contain) {
			return s.stage
		}
	}
	return ""
}
