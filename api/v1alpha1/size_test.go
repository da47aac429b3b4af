package v1alpha1

import "testing"

func TestSizeReadsQuantities(t *testing.T) {
	for text, want := range map[string]Size{
		"1":          1,
		"8Gi":        8 << 30,
		"1.5Gi":      3 << 29,
		"2048Mi":     2 << 30,
		"1Ti":        1 << 40,
		"1T":         1e12,
		"20G":        20e9,
		"10k":        10_000,
		"1Ki":        1024,
		"0.5k":       500,
		"8589934592": 8 << 30,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s is %d (%v), want %d", text, int64(got), err, int64(want))
		}
	}
}

func TestSizeRefusesWhatIsNone(t *testing.T) {
	for _, text := range []string{"", "0", "-1", "+1", "8 Gi", "8gi", "8GB", "8K", "1e3", "0.1", "1.Gi", ".5Gi", "1_000", "0x10", "9223372036854775808", "8388608Ti", "99999999999999999999Ti", "8Gi\n"} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, int64(got))
		}
	}
}

func TestSizeIsWrittenInTheLargestExactUnit(t *testing.T) {
	for size, want := range map[Size]string{0: "0", 1: "1", 1 << 10: "1Ki", 3 << 29: "1536Mi", 8 << 30: "8Gi", 2500e6: "2500000000", 1 << 62: "4194304Ti"} {
		if got := size.String(); got != want {
			t.Errorf("%d is written %s, want %s", int64(size), got, want)
		}
	}
}
