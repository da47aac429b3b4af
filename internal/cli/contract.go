package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nodesmith.dev/nodesmith/internal/contract"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/manifest"
	"nodesmith.dev/nodesmith/internal/proof"
	"nodesmith.dev/nodesmith/internal/report"
)

// contractVersion is the version of what contract list --json prints.
const contractVersion = "nodesmith.dev/contract/v1alpha1"

func contractCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use: "contract", Short: "Show what an image has to be",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var asJSON bool
	list := &cobra.Command{
		Use: "list", Short: "List every check of verify --level contract",
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return printJSON(s.out, map[string]any{"apiVersion": contractVersion, "kind": report.ContractKind, "checks": contract.List()})
			}
			for _, check := range contract.List() {
				if _, err := fmt.Fprintf(s.out, "%-42s %-12s %s\n", check.ID, check.Severity, check.Title); err != nil {
					return err
				}
			}
			return nil
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print everything about the checks as one JSON document, a ContractReport")
	c.AddCommand(list)
	return c
}

// contract checks one image and prints the report.
func (v verification) contract(ctx context.Context, s streams, image subject) error {
	result, err := v.check(ctx, image)
	if err != nil {
		return err
	}
	broken := result.Err(v.strict)
	printed := error(nil)
	if v.asJSON {
		printed = printJSON(s.out, report.OfContract(result, broken == nil))
	} else {
		printed = result.WriteText(s.out, v.all)
	}
	return errors.Join(broken, printed)
}

// check holds an image against the contract, and keeps the report with it if it is
// in the store.
func (v verification) check(ctx context.Context, image subject) (_ *contract.Report, err error) {
	disk, err := image.open(ctx, v.from)
	if err != nil {
		return nil, err
	}
	defer closing(&err, disk)
	asked, err := image.customization(ctx)
	if err != nil {
		return nil, err
	}
	if v.accounts == nil {
		v.accounts = asked.Users
	}
	var files []string
	for _, f := range asked.Files {
		files = append(files, f.Path)
	}
	firmware := slices.Clone(v.firmware)
	for i, f := range firmware {
		firmware[i] = strings.TrimSuffix(f, "-secure")
	}
	result, err := contract.Verify(ctx, disk, disk.Size(), contract.Options{
		Infrastructure: cmp.Or(v.infrastructure, image.infrastructure()), Firmware: firmware, Accounts: v.accounts, Files: files,
	})
	if err != nil {
		return nil, err
	}
	passed := result.Err(false) == nil
	text, err := json.Marshal(report.OfContract(result, passed))
	if err != nil {
		return nil, err
	}
	return result, image.attach(ctx, proof.Contract, passed, nil, text)
}

// customizationOf returns what the manifest beside an image lists as asked for by
// its spec; nothing where there is no manifest.
func customizationOf(name string) (manifest.Customization, error) {
	m, err := manifest.Read(withoutSuffix(name) + manifest.Suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return manifest.Customization{}, nil
	}
	if err != nil {
		return manifest.Customization{}, err
	}
	return m.Customization, nil
}

// withoutSuffix returns an image file's path without its format's suffix.
func withoutSuffix(name string) string {
	for _, suffix := range known.Suffixes() {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			return base
		}
	}
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// infrastructureOf reads the infrastructure from the name that build gives to
// an image, NAME-INFRASTRUCTURE.FORMAT; "" when it is another's name.
func infrastructureOf(name string) string {
	stem := filepath.Base(withoutSuffix(name))
	if i := strings.LastIndex(stem, "-"); i >= 0 && slices.Contains(contract.Infrastructures, stem[i+1:]) {
		return stem[i+1:]
	}
	return ""
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
