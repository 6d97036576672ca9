//go:build linux

package hostile

import (
	"context"
	"sync"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

const (
	// budgetFlag is the flag that gives a daemon budgetBytes of memory.
	budgetFlag  = "--memory=128MiB"
	budgetBytes = 128 << 20
	// beyond is the memory that the runtime, its collector and the peers' stacks may take beyond
	// the budget, in bytes.
	beyond = 128 << 20
	// share is the part of their offered messages that honest peers must get in spite of an attack.
	share = 0.9
)

// length of the two phases
func quiet() time.Duration  { return scaled(time.Second, 5*time.Second) }
func attack() time.Duration { return scaled(3*time.Second, 15*time.Second) }

// traffic is the traffic of honest peers with a daemon, until the test ends.
type traffic interface {
	// offered returns the number of messages offered so far, each counted as often as it should
	// arrive.
	offered() int
	// got returns the number of these that have arrived.
	got() int
	// stop ends the offers, waits for messages under way, and checks the accounts of the daemon.
	stop()
}

// assault is an attack on one daemon.
type assault struct {
	name, daemon, inputs string

	process *testkit.Process
	honest  traffic
	// run attacks until ctx ends or the attack is complete.
	run func(t *testing.T, ctx context.Context)
	// calm says that after the attack the daemon has no work except for honest peers, so it must
	// hardly take more processor time than before.
	calm bool
}

// start runs the attack beside the honest peers' traffic, after a phase without attack, and adds
// the result to the table.
func (a *assault) start(t *testing.T) {
	t.Helper()
	r := result{attack: a.name, daemon: a.daemon, inputs: a.inputs}
	t.Cleanup(func() { r.failed = t.Failed(); table.add(r) })

	begin, before := time.Now(), a.honest.got()
	pid := a.process.Cmd.Process.Pid
	cpu := testkit.CPUTime(t, pid)
	time.Sleep(quiet()) // to measure the rate without attack
	r.before = float64(a.honest.got()-before) / time.Since(begin).Seconds()
	idle := (testkit.CPUTime(t, pid) - cpu).Seconds() / time.Since(begin).Seconds()

	ctx, cancel := context.WithTimeout(t.Context(), attack())
	defer cancel()
	cpu = testkit.CPUTime(t, pid)
	begin, before = time.Now(), a.honest.got()
	offered := a.honest.offered()
	var running sync.WaitGroup
	running.Go(func() { a.run(t, ctx) })
	// What the attack itself costs comes first, and then the state in which it leaves the daemon.
	time.Sleep(attack() / 2)
	stuck, stuckCPU := time.Now(), testkit.CPUTime(t, pid)
	<-ctx.Done()
	r.during = float64(a.honest.got()-before) / time.Since(begin).Seconds()
	a.process.WantRunning()
	r.cpu = testkit.CPUTime(t, pid) - cpu
	used := (testkit.CPUTime(t, pid) - stuckCPU).Seconds() / time.Since(stuck).Seconds()
	// A loop would take a whole processor. Rotation goes on, and starts post-processors, which takes
	// several times the processor time on a busy machine.
	if a.calm && used > 3*idle+0.2 {
		t.Errorf("the daemon takes %.0f %% of a processor, before the attack %.0f %%", 100*used,
			100*idle)
	}
	running.Wait()

	a.honest.stop()
	r.offered, r.lost = a.honest.offered()-offered, a.honest.offered()-a.honest.got()
	a.process.WantRunning()
	r.peak = testkit.PeakMemory(t, pid)
	if got := float64(r.offered - r.lost); got < share*float64(r.offered) {
		t.Errorf("honest peers got %.0f of %d messages that they offered during the attack, want "+
			"at least %.0f %%", got, r.offered, 100*share)
	}
	if r.peak > budgetBytes+beyond {
		t.Errorf("the daemon took %d MiB of memory, at most %d are allowed", r.peak>>20,
			(budgetBytes+beyond)>>20)
	}
}
