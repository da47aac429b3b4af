package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/blockcache"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/format/qcow2"
	"nodesmith.dev/nodesmith/internal/format/vhd"
	"nodesmith.dev/nodesmith/internal/host"
)

// compressions are the values of convert --qcow2-compression.
var compressions = map[string]qcow2.Compression{"zstd": qcow2.Zstd, "zlib": qcow2.Zlib, "none": qcow2.Plain}

// vhdKinds are the values of convert --vhd.
var vhdKinds = map[string]func(out *format.Output, diskSize int64) (format.Writer, error){
	"fixed": vhd.Format.New,
	"dynamic": func(out *format.Output, diskSize int64) (format.Writer, error) {
		return vhd.NewDynamic(out, diskSize, vhd.Options{})
	},
}

// conversion is what the flags of convert say.
type conversion struct {
	to                   []string
	from, output, name   string
	compression, vhdKind string
	ovaFile              string
	signing              signingFlags
	workers              int
	cache                bool
}

func convertCommand(s streams) *cobra.Command {
	var o conversion
	c := &cobra.Command{
		Use: "convert FILE --to FORMAT...", Short: "Turn a disk image into other formats",
		Long: `Turn a disk image into other formats, all in one read. FILE is a raw disk, or any
image that nodesmith reads: ` + strings.Join(known.Names(), ", ") + `. Formats and
their rules are described in docs/formats.md. Files get their names only when all
of them are whole; what had the name before is replaced.`,
		Example: "  nodesmith convert out/debian-12-qemu.qcow2 --to ova --to vhd --to raw -o out",
		Args:    oneArgument("FILE"),
		RunE:    func(c *cobra.Command, args []string) error { return o.run(c, s, args[0]) },
	}
	f := c.Flags()
	f.StringSliceVar(&o.to, "to", nil, "formats to make: `"+strings.Join(known.Names(), "|")+"`")
	f.StringVar(&o.from, "from", "", "FILE's format, if its content should not decide (a guest can make a raw disk look like another format)")
	f.StringVarP(&o.output, "output", "o", ".", "folder for the files")
	f.StringVar(&o.name, "name", "", "the files' names without suffix (default: FILE's)")
	f.StringVar(&o.compression, "qcow2-compression", "zstd", "`zstd|zlib|none`: zlib for QEMU before 5.1")
	f.StringVar(&o.vhdKind, "vhd", "fixed", "`fixed|dynamic`: Azure wants fixed")
	f.StringVar(&o.ovaFile, "ova", "", "YAML file with the OVA's settings (docs/formats.md lists them)")
	o.signing.register(c)
	f.BoolVar(&o.cache, "cache", true, "keep compressed blocks for the next conversion, and use those of earlier ones")
	f.IntVar(&o.workers, "workers", 0, "goroutines that compress (default: one for each core)")
	return c
}

func (o conversion) run(c *cobra.Command, s streams, path string) error {
	image, err := openImage(path, o.from)
	if err != nil {
		return err
	}
	defer func() { _ = image.Close() }() // only read
	targets, err := o.targets(path, image.Info)
	if err != nil {
		return err
	}
	if err := makeFolder(o.output); err != nil {
		return err
	}
	converter := format.Converter{Workers: o.workers}
	if o.cache {
		settings, err := host.Read()
		if err != nil {
			return err
		}
		converter.Blocks = blockcache.Open(host.BlocksDir(settings.CacheDir), int64(settings.Bounds.Blocks))
		defer converter.Blocks.Close()
	}
	if _, err := converter.Convert(c.Context(), image, targets); err != nil {
		return readFault(fmt.Errorf("convert %s (%s): %w", path, image.Format.Name, err))
	}
	for _, target := range targets {
		if _, err := fmt.Fprintln(s.out, target.Path); err != nil {
			return err
		}
	}
	return nil
}

// targets resolves the formats and their options.
func (o conversion) targets(path string, source os.FileInfo) ([]format.Target, error) {
	if len(o.to) == 0 {
		return nil, fault.New(fault.Usage, "say --to "+strings.Join(known.Names(), ", --to "), "no format to convert to")
	}
	if o.name == "" {
		o.name = filepath.Base(withoutSuffix(path))
	}
	var targets []format.Target
	for _, name := range slices.Compact(slices.Sorted(slices.Values(o.to))) {
		f, err := known.Named(name)
		if err != nil {
			return nil, fault.New(fault.Usage, "", "--to: %w", err)
		}
		target := format.Target{Path: filepath.Join(o.output, o.name+f.Suffix), New: f.New}
		if info, err := os.Stat(target.Path); err == nil && os.SameFile(info, source) {
			return nil, fault.New(fault.Usage, "give another folder with -o, or another --name", "%s would replace what is converted", target.Path)
		}
		if target.New, err = o.writer(f); err != nil {
			return nil, err
		}
		targets = append(targets, target)
	}
	return targets, nil
}

// writer returns f's writer with the options that the flags give.
func (o conversion) writer(f format.Format) (func(*format.Output, int64) (format.Writer, error), error) {
	switch f.Name {
	case qcow2.Format.Name:
		compression, ok := compressions[o.compression]
		if !ok {
			return nil, wrongFlag("--qcow2-compression %q is not zstd, zlib or none", o.compression)
		}
		return qcow2.Options{Compression: compression}.New, nil
	case vhd.Format.Name:
		kind, ok := vhdKinds[o.vhdKind]
		if !ok {
			return nil, wrongFlag("--vhd %q is not fixed or dynamic", o.vhdKind)
		}
		return kind, nil
	case ova.Format.Name:
		options, err := o.ovaOptions()
		return options.New, err
	}
	return f.New, nil
}

func (o conversion) ovaOptions() (ova.Options, error) {
	options := ova.Options{Name: o.name}
	if o.ovaFile != "" {
		text, err := os.ReadFile(o.ovaFile)
		if err != nil {
			return options, wrongFlag("--ova: %w", err)
		}
		if err := yaml.UnmarshalStrict(text, &options); err != nil {
			return options, wrongFlag("--ova %s: %w", o.ovaFile, err)
		}
	}
	var err error
	options.Signer, err = o.signing.configured()
	return options, err
}

// wrongFlag is the error of a flag's value.
func wrongFlag(format string, args ...any) error {
	return fault.New(fault.Usage, "nodesmith convert --help lists the flags", format, args...)
}
