package install

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// byteCompiler is what packages' scripts call to compile their Python modules (dh_python3(1)).
// They look at nothing that it makes, and it takes a third of the time of configuring a node.
const byteCompiler = "/usr/bin/py3compile"

// searchPath is where package scripts find programs.
const searchPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// later runs a program beside the scripts that call it, each call once, one after the
// other: a script that comes first on the search path hands its arguments over and
// returns.
type later struct {
	program string
	dir     string // of the script and the queue; "" if the program is not there
	queue   *os.File
	calls   chan []string
	stop    context.CancelFunc
	ended   sync.WaitGroup
	err     error           // the first failure, once ended
	known   map[string]bool // calls that ran, or need not run
}

// handOver writes each argument and an empty one, all with a NUL behind them: a
// script's arguments are never empty.
const handOver = `#!/bin/sh
printf '%s\0' "$@" '' > "${0%/*}/queue"
`

// manyCalls is more than scripts make while one is running: a call per package.
const manyCalls = 1 << 14

// runLater begins to take calls of a program; done lists those that ran before. The
// caller ends it with wait.
func runLater(ctx context.Context, program string, done [][]string) (_ *later, err error) {
	l := &later{program: program, calls: make(chan []string, manyCalls), known: map[string]bool{}}
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	for _, args := range done {
		l.known[callKey(args)] = true
	}
	if l.dir, err = os.MkdirTemp("", "nodesmith-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(l.dir))
		}
	}()
	if err := os.WriteFile(filepath.Join(l.dir, filepath.Base(program)), []byte(handOver), 0o755); err != nil {
		return nil, err
	}
	if l.queue, err = makeQueue(filepath.Join(l.dir, "queue")); err != nil {
		return nil, err
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.ended.Go(l.take)
	l.ended.Go(func() { l.err = l.serve(ctx) })
	return l, nil
}

func callKey(args []string) string { return strings.Join(args, "\x00") }

// path returns the search path of the scripts that call the program.
func (l *later) path() string {
	if l.dir == "" {
		return searchPath
	}
	return l.dir + ":" + searchPath
}

// call asks for a call as a script does.
func (l *later) call(args []string) {
	if l.dir != "" {
		l.calls <- args
	}
}

// take reads the scripts' calls until wait's comes, which has no argument.
func (l *later) take() {
	defer close(l.calls)
	var args []string
	for calls := bufio.NewReader(l.queue); ; {
		arg, err := calls.ReadString(0)
		if err != nil {
			return
		}
		if arg = strings.TrimSuffix(arg, "\x00"); arg != "" {
			args = append(args, arg)
			continue
		}
		if len(args) == 0 {
			return
		}
		l.calls <- args
		args = nil
	}
}

// serve runs the calls.
func (l *later) serve(ctx context.Context) (failure error) {
	for args := range l.calls {
		if key := callKey(args); failure == nil && !l.known[key] {
			l.known[key] = true
			failure = run(ctx, nil, l.program, args...)
		}
	}
	return failure
}

// wait ends when all calls have run, with the first failure. If failed is not nil,
// calls that have not run are given up, and that error comes back.
func (l *later) wait(failed error) error {
	if l.dir == "" {
		return failed
	}
	defer l.stop()
	if failed != nil {
		l.stop()
	}
	_, err := l.queue.WriteString("\x00")
	if err != nil {
		return errors.Join(failed, err)
	}
	l.ended.Wait()
	err = errors.Join(l.err, l.queue.Close(), os.RemoveAll(l.dir))
	if failed != nil {
		return failed
	}
	return err
}

// plainCall is a call of byteCompiler in a script, as dh_python3 writes them, that
// takes no shell to understand.
var plainCall = regexp.MustCompile(`(?m)^\s*py3compile((?: +[A-Za-z0-9_.,/+:@~-]+)+) *$`)

// plainCalls returns the plain calls in the scripts with which the packages in the
// tree at root are configured, in the order of their names.
func plainCalls(root string) ([][]string, error) {
	scripts, err := filepath.Glob(filepath.Join(root, infoDir, "*.postinst"))
	if err != nil {
		return nil, err
	}
	var calls [][]string
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			return nil, err
		}
		for _, found := range plainCall.FindAllStringSubmatch(string(text), -1) {
			calls = append(calls, strings.Fields(found[1]))
		}
	}
	return calls, nil
}
