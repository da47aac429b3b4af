package host

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// Go says where Go modules come from and what they are held against, as
// `go help module-auth` has it.
type Go struct{ Proxy, SumDB, NoSumDB string }

// The go command's own defaults.
const (
	defaultGoProxy = "https://proxy.golang.org,direct"
	defaultGoSumDB = "sum.golang.org"
)

// Go asks the go command, which also knows `go env -w`; without one, the
// environment and Go's own defaults count. The configuration's proxy comes before
// all of them.
func (s Settings) Go(ctx context.Context) (Go, error) {
	env := map[string]string{}
	if program, err := exec.LookPath("go"); err == nil {
		out, err := exec.CommandContext(ctx, program, "env", "-json", "GOPROXY", "GOSUMDB", "GONOSUMDB").Output()
		if err == nil {
			err = json.Unmarshal(out, &env)
		}
		if err != nil {
			return Go{}, fmt.Errorf("go env: %w", err)
		}
	} else {
		for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB"} {
			env[name] = os.Getenv(name)
		}
	}
	return Go{
		Proxy:   cmp.Or(s.GoProxy, env["GOPROXY"], defaultGoProxy),
		SumDB:   cmp.Or(env["GOSUMDB"], defaultGoSumDB),
		NoSumDB: env["GONOSUMDB"],
	}, nil
}
