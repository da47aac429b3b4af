package size

import "testing"

func TestBytesReadAsPeopleWriteThem(t *testing.T) {
	for b, want := range map[Bytes]string{
		0: "0 bytes", 1000: "1000 bytes", KiB: "1 KiB", 1536 * KiB: "1536 KiB",
		4 * GiB: "4 GiB", GiB + MiB: "1025 MiB", 5*MiB + 512*KiB + 1: "5.5 MiB",
	} {
		if got := b.String(); got != want {
			t.Errorf("Bytes(%d).String() = %q, want %q", int64(b), got, want)
		}
	}
}

func TestPartialSectorsCountWhole(t *testing.T) {
	for b, want := range map[Bytes]Sectors{-1: 0, 0: 0, 1: 1, 512: 1, 513: 2, MiB: 2048} {
		if got := b.Sectors(); got != want {
			t.Errorf("Bytes(%d).Sectors() = %d, want %d", int64(b), got, want)
		}
	}
}

func TestAlignment(t *testing.T) {
	if got := (MiB + 1).AlignUp(MiB); got != 2*MiB {
		t.Errorf("AlignUp = %v", got)
	}
	if got := (2*MiB - 1).AlignDown(MiB); got != MiB {
		t.Errorf("AlignDown = %v", got)
	}
}
