package peers

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// cost is what a run took.
type cost struct {
	wall time.Duration
	// cpu is that of this process and of all that it started and waited for. It
	// counts where other programs want the processors too.
	cpu time.Duration
}

func (c cost) String() string {
	return fmt.Sprintf("%.1f s (%.1f s of processor time)", c.wall.Seconds(), c.cpu.Seconds())
}

func (c cost) plus(d cost) cost { return cost{c.wall + d.wall, c.cpu + d.cpu} }

// of is c as a part of d.
func (c cost) of(d cost) (wall, cpu float64) {
	return c.wall.Seconds() / d.wall.Seconds(), c.cpu.Seconds() / d.cpu.Seconds()
}

// spent runs a function and says what it took.
func spent(b *testing.B, run func()) cost {
	b.Helper()
	start, before := time.Now(), processorTime(b)
	run()
	return cost{time.Since(start), processorTime(b) - before}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return sum
}

// pairs are runs of nodesmith, in memory or on the disk, and of a peer, in turn.
type pairs struct {
	medium       string
	ours, theirs cost
}

// add prints a pair and reports the ratios of all.
func (p *pairs) add(b *testing.B, what, peer string, ours, theirs cost) {
	b.Helper()
	wall, cpu := ours.of(theirs)
	fmt.Printf("%s: nodesmith, %s, %s, %s %s: %.2f (%.2f)\n", what, p.medium, ours, peer, theirs, wall, cpu)
	p.ours, p.theirs = p.ours.plus(ours), p.theirs.plus(theirs)
	wall, cpu = p.ours.of(p.theirs)
	b.ReportMetric(wall, "wall-of-"+peer+"-"+p.medium)
	b.ReportMetric(cpu, "cpu-of-"+peer+"-"+p.medium)
}
