package ova_test

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/testenv"
)

var suite = formattest.Suite{Format: ova.Format, EmptySize: 128 << 10}

func TestOVAConforms(t *testing.T) { formattest.Run(t, suite) }

// node is what a node image for TKG says.
var node = ova.Options{
	Name: "debian-12-kube-v1.34.0", HardwareVersion: 17, Firmware: ova.EFISecure,
	GuestOS: "debian11_64Guest", GuestOSNumber: 96, CPUs: 4, MemoryMiB: 8192, Network: "nic0",
	EULA: "Use it <well> & often.", Annotation: "Built by nodesmith",
	Product: ova.Product{
		Name: "Debian 12 and Kubernetes v1.34.0", Vendor: "Example \"Corp\"", Version: "kube-v1.34.0", FullVersion: "kube-v1.34.0",
		Properties: []ova.Property{
			{Key: "VERSION", Value: "v1.34.0+vmware.1-myorg.0"}, {Key: "DISTRO_NAME", Value: "debian"},
			{Key: "DISTRO_VERSION", Value: "12"}, {Key: "DISTRO_ARCH", Value: "amd64"},
			{Key: "KUBERNETES_SEMVER", Value: "v1.34.0"},
		},
	},
}

func disk() *formattest.Disk {
	d := formattest.NewDisk(40 << 20)
	d.Random(rand.New(rand.NewPCG(1, 1)), 0, 300<<10)
	return d
}

// pack writes an OVA of disk and unpacks it, in the archive's order.
func pack(t testing.TB, options ova.Options) (path, dir string, names []string) {
	t.Helper()
	s := suite
	s.New = options.New
	path, dir = s.Convert(t, disk(), 2), t.TempDir()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	archive := tar.NewReader(file)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return path, dir, names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Format&tar.FormatUSTAR == 0 {
			t.Errorf("%s has a header of format %v", h.Name, h.Format)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, h.Name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func run(t *testing.T, dir string, stdin []byte, program string, args ...string) string {
	t.Helper()
	testenv.Need(t, program)
	c := exec.CommandContext(t.Context(), program, args...)
	c.Dir, c.Stdin = dir, bytes.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

func TestTheDescriptorStandsFirstAndNamesTheDisksSize(t *testing.T) {
	_, dir, names := pack(t, node)
	want := []string{node.Name + ".ovf", node.Name + "-disk1.vmdk", node.Name + ".mf"}
	if !slices.Equal(names, want) {
		t.Fatalf("files %q, want %q", names, want)
	}
	info, err := os.Stat(filepath.Join(dir, want[1]))
	if err != nil {
		t.Fatal(err)
	}
	descriptor, err := os.ReadFile(filepath.Join(dir, want[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		fmt.Sprintf(`<File ovf:href="%s" ovf:id="file1" ovf:size="%d">`, want[1], info.Size()),
		fmt.Sprintf(`ovf:capacity="%d" ovf:capacityAllocationUnits="byte"`, 40<<20),
		fmt.Sprintf(`ovf:populatedSize="%d"`, 320<<10), // whole blocks
		`ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"`,
		`<vssd:VirtualSystemType>vmx-17</vssd:VirtualSystemType>`,
		`<rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>`,
		`<rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>`,
		`<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi">`,
		`vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"`,
		`<OperatingSystemSection ovf:id="96" vmw:osType="debian11_64Guest">`,
		`<Category>Cluster API Provider (CAPI)</Category>`,
		`<Property ovf:userConfigurable="false" ovf:key="VERSION" ovf:type="string" ovf:value="v1.34.0+vmware.1-myorg.0">`,
		`<License>Use it &lt;well&gt; &amp; often.</License>`,
		`<Annotation>Built by nodesmith</Annotation>`,
	} {
		if !bytes.Contains(descriptor, []byte(part)) {
			t.Errorf("the descriptor lacks %s", part)
		}
	}
	if t.Failed() {
		t.Logf("%s", descriptor)
	}
}

// TestTheDescriptorFollowsTheSchema holds the rules of dsp8023 and of CIM's
// schemas that importers are known to insist on.
func TestTheDescriptorFollowsTheSchema(t *testing.T) {
	_, dir, _ := pack(t, node)
	text, err := os.ReadFile(filepath.Join(dir, node.Name+".ovf"))
	if err != nil {
		t.Fatal(err)
	}
	type element struct {
		XMLName  xml.Name
		Attrs    []xml.Attr `xml:",any,attr"`
		Children []element  `xml:",any"`
	}
	var root element
	if err := xml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	const ovf = "http://schemas.dmtf.org/ovf/envelope/1"
	ids := map[string]bool{}
	var order []string
	var walk func(e element)
	walk = func(e element) {
		if strings.HasSuffix(e.XMLName.Local, "Section") && (len(e.Children) == 0 || e.Children[0].XMLName.Local != "Info") {
			t.Errorf("%s does not begin with Info", e.XMLName.Local)
		}
		if e.XMLName.Local == "Item" {
			var names []string
			for _, c := range e.Children {
				if !strings.HasSuffix(c.XMLName.Space, "CIM_ResourceAllocationSettingData") {
					t.Errorf("%s is in %q", c.XMLName.Local, c.XMLName.Space)
				}
				names = append(names, c.XMLName.Local)
			}
			if !slices.IsSorted(names) {
				t.Errorf("elements of an Item are not in order: %v", names)
			}
		}
		for _, a := range e.Attrs {
			if a.Name.Local == "id" && a.Name.Space == ovf && e.XMLName.Local != "OperatingSystemSection" {
				if ids[a.Value] {
					t.Errorf("two elements have the id %q", a.Value)
				}
				ids[a.Value] = true
			}
			if a.Name.Space == "ovf" || a.Name.Space == "vmw" {
				t.Errorf("prefix %s is not declared", a.Name.Space)
			}
		}
		for _, c := range e.Children {
			walk(c)
		}
	}
	walk(root)
	for _, c := range root.Children {
		order = append(order, c.XMLName.Local)
	}
	if want := []string{"References", "DiskSection", "NetworkSection", "VirtualSystem"}; root.XMLName.Space != ovf || !slices.Equal(order, want) {
		t.Errorf("envelope in %q has %v", root.XMLName.Space, order)
	}
}

func TestSha256sumAgreesWithTheManifest(t *testing.T) {
	_, dir, _ := pack(t, node)
	manifest, err := os.ReadFile(filepath.Join(dir, node.Name+".mf"))
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^SHA256\((.+)\)= ([0-9a-f]{64})$`)
	if len(lines.FindAll(manifest, -1)) != 2 {
		t.Fatalf("manifest:\n%s", manifest)
	}
	run(t, dir, lines.ReplaceAll(manifest, []byte("$2  $1")), "sha256sum", "--check", "--strict")
}

func TestOpensslVerifiesTheSignature(t *testing.T) {
	testenv.Need(t, "openssl")
	keys := t.TempDir()
	run(t, keys, nil, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=image builder", "-days", "2")
	run(t, keys, nil, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ec.pem", "-out", "ec-cert.pem", "-subj", "/CN=other", "-days", "2")
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(keys, name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	signer, err := ova.NewSigner(read("key.pem"), read("cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	signed := node
	signed.Signer = signer
	_, dir, names := pack(t, signed)
	if names[len(names)-1] != node.Name+".cert" {
		t.Fatalf("files %q", names)
	}
	cert, err := os.ReadFile(filepath.Join(dir, node.Name+".cert"))
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := bytes.Cut(cert, []byte("\n"))
	found := regexp.MustCompile(`^SHA256\(` + regexp.QuoteMeta(node.Name) + `\.mf\)= ([0-9a-f]+)$`).FindSubmatch(first)
	if found == nil {
		t.Fatalf("signature line %q", first)
	}
	signature, err := hex.DecodeString(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "signature"), signature, 0o600); err != nil {
		t.Fatal(err)
	}
	public := run(t, dir, rest, "openssl", "x509", "-pubkey", "-noout")
	if err := os.WriteFile(filepath.Join(dir, "public.pem"), []byte(public), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "openssl", "dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", node.Name+".mf")

	for name, pair := range map[string][2]string{
		"an EC key": {"ec.pem", "ec-cert.pem"}, "another's certificate": {"key.pem", "ec-cert.pem"},
		"no certificate": {"key.pem", "key.pem"}, "no key": {"cert.pem", "cert.pem"},
	} {
		if _, err := ova.NewSigner(read(pair[0]), read(pair[1])); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestQEMUReadsTheDiskInThePackage(t *testing.T) {
	_, dir, names := pack(t, node)
	formattest.QEMUCompares("vmdk")(t, filepath.Join(dir, names[1]), disk().File(t))
}

func TestWhatWasWrittenIsReadBack(t *testing.T) {
	path, _, names := pack(t, node)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := ova.Open(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	name, product, err := opened.Product()
	if err != nil || name != node.Name || product.Version != node.Product.Version || product.Category != ova.CAPICategory ||
		!slices.Equal(product.Properties, node.Product.Properties) {
		t.Errorf("%q, %+v, %v", name, product, err)
	}
	if len(opened.Files) != len(names) {
		t.Errorf("files %+v", opened.Files)
	}
}

func TestOptionsThatNoImporterTakesAreRefused(t *testing.T) {
	for name, o := range map[string]ova.Options{
		"a firmware that isn't":       {Firmware: "uefi"},
		"secure boot on old hardware": {Firmware: ova.EFISecure, HardwareVersion: 11},
		"hardware of ESX 3":           {HardwareVersion: 4},
		"a name with a slash":         {Name: "../node"},
		"a name with a blank":         {Name: "my node"},
		"no CPUs":                     {CPUs: -1},
	} {
		if _, err := o.New(format.NewOutput(nil, 0), 512); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// archive makes a tar archive of names and contents in turn.
func archive(t testing.TB, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Size: int64(len(files[i+1])), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func descriptor(href, attributes string) string {
	return `<Envelope><References><File href="` + href + `" id="f" ` + attributes + `/></References><DiskSection><Disk fileRef="f"/></DiskSection></Envelope>`
}

func TestHostilePackagesAreRefused(t *testing.T) {
	path, _, _ := pack(t, node)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var many []string
	for i := range 1500 {
		many = append(many, fmt.Sprint(i, ".ovf"), "")
	}
	huge := archive(t, "a.ovf", "x")
	copy(huge[124:], "77777777777\x00")
	for name, image := range map[string][]byte{
		"no descriptor":               archive(t, "a.vmdk", "x"),
		"a descriptor that is no XML": archive(t, "a.ovf", "hello"),
		"XML without an end":          archive(t, "a.ovf", strings.Repeat("<a>", 1<<20)),
		"an entity bomb":              archive(t, "a.ovf", `<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><Envelope>&c;</Envelope>`),
		"a disk that isn't there":     archive(t, "a.ovf", descriptor("b.vmdk", "")),
		"a disk outside":              archive(t, "a.ovf", descriptor("../../etc/passwd", "")),
		"a disk that is gzipped":      archive(t, "a.ovf", descriptor("b.vmdk", `compression="gzip"`), "b.vmdk", "x"),
		"a disk in chunks":            archive(t, "a.ovf", descriptor("b.vmdk", `chunkSize="100"`), "b.vmdk", "x"),
		"a disk that is no VMDK":      archive(t, "a.ovf", descriptor("b.vmdk", ""), "b.vmdk", strings.Repeat("x", 4096)),
		"a descriptor of 8 GiB":       huge,
		"too many files":              archive(t, many...),
		"a descriptor of 5 MiB":       archive(t, "a.ovf", strings.Repeat(" ", 5<<20)),
		"cut in the disk":             good[:len(good)/2],
		"nothing":                     {},
	} {
		t.Run(name, func(t *testing.T) {
			formattest.Refuses(t, ova.Format, image, format.ErrCorrupt, ova.ErrUnsupported)
		})
	}
}

func FuzzOpen(f *testing.F) {
	path, _, _ := pack(f, node)
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	formattest.Fuzz(f, ova.Format, good, archive(f, "a.ovf", descriptor("b.vmdk", ""), "b.vmdk", "KDMV"))
}
