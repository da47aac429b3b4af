package v1alpha1

import (
	"errors"
	"math/big"
	"strconv"

	"nodesmith.dev/nodesmith/internal/lazyregexp"
)

// Size is a number of bytes. Its text form is a Kubernetes quantity: digits,
// perhaps a fraction, and a suffix of units of 1024 (Ki, Mi, Gi, Ti) or of 1000
// (k, M, G, T). The zero value means that no size was given; no text means zero.
type Size int64

// sizeUnits are the suffixes of a quantity and their meaning in bytes, of each
// base the larger first.
// https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10},
	{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3},
	{"", 1},
}

// sizeSyntax has bounded parts, so that no input makes the arithmetic slow.
var sizeSyntax = lazyregexp.New(`^([0-9]{1,20}(?:\.[0-9]{1,20})?)([KMGT]i|[kMGT]?)$`)

// String returns the size in the largest unit of 1024 that holds it exactly.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if binary := len(unit.suffix) != 1; binary && s != 0 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.suffix
		}
	}
	return "0"
}

// MarshalText returns String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a quantity. Its error is a *FieldError without a field;
// zero, fractions of a byte and more than 2^63-1 bytes are errors.
func (s *Size) UnmarshalText(text []byte) error {
	bad := &FieldError{
		Found: quote(string(text)), Problem: "is not a size",
		Allowed: []string{"a whole number of bytes above 0, such as 8Gi, 10240Mi or 20G"},
	}
	parts := sizeSyntax.FindSubmatch(text)
	if parts == nil {
		return bad
	}
	number, ok := new(big.Rat).SetString(string(parts[1]))
	if !ok {
		return bad
	}
	for _, unit := range sizeUnits {
		if unit.suffix == string(parts[2]) {
			number.Mul(number, new(big.Rat).SetInt64(unit.bytes))
		}
	}
	if !number.IsInt() || !number.Num().IsInt64() || number.Sign() == 0 {
		return bad
	}
	*s = Size(number.Num().Int64())
	return nil
}

// SizeOrContent is a Size, or Content. Its text form is that of a Size, or the
// word content.
type SizeOrContent Size

// Content means as large as what it holds, and some headroom.
const Content SizeOrContent = -1

// contentText is the text form of Content.
const contentText = "content"

// String returns the text form.
func (s SizeOrContent) String() string {
	if s == Content {
		return contentText
	}
	return Size(s).String()
}

// MarshalText returns String.
func (s SizeOrContent) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a Size or the word content; its error is that of Size.
func (s *SizeOrContent) UnmarshalText(text []byte) error {
	if string(text) == contentText {
		*s = Content
		return nil
	}
	err := (*Size)(s).UnmarshalText(text)
	if bad, ok := errors.AsType[*FieldError](err); ok {
		bad.Problem, bad.Allowed = "is neither a size nor "+contentText, append(bad.Allowed, contentText)
	}
	return err
}
