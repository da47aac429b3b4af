package pipeline

import (
	"nodesmith.dev/nodesmith/internal/build/tree"
	"nodesmith.dev/nodesmith/internal/report"
)

// Stages says what the pipeline has done since Open, stage by stage, for the build
// that made artifacts. Their sizes are those of what each stage takes in, of the lock,
// of the disks and of the files.
func (p *Pipeline) Stages(artifacts []Artifact) []report.Stage {
	sizes := map[string]int64{}
	for name, size := range p.inputs.Used() {
		sizes[tree.StageOf(name)] += size
	}
	sizes[tree.StageLock] = p.lockBytes
	disks := map[string]bool{}
	for _, a := range artifacts {
		if !disks[a.Infrastructure] {
			disks[a.Infrastructure] = true
			sizes[tree.StageDisk] += a.SizeBytes
		}
		sizes[tree.StageFormats] += a.StoredBytes
	}
	var stages []report.Stage
	for _, s := range p.record.Stages(tree.Stages()) {
		stages = append(stages, report.Stage{Name: s.Name, Seconds: s.Took.Seconds(), Cached: s.Cached, SizeBytes: sizes[s.Name]})
	}
	return stages
}
