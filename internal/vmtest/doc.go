// Package vmtest proves a node image by booting it.
//
// What comes in is a disk image (never written: the guest runs on an overlay)
// and a script; what goes out is the guest's own report: checks by id, each
// with evidence. The guest gets the script as NoCloud user-data and answers
// over a virtio-serial port, so neither SSH nor a network is needed.
//
// [Boot] is the boot level of verify: BIOS and UEFI, one boot each. [Run] boots
// once with any [Script]. [Start] is the machine beneath both.
//
// A machine belongs to the context that started it: when that ends, QEMU's
// process group is killed, and a killed parent takes QEMU with it. Its files
// are unlinked as soon as QEMU holds them open. Memory: the guest's, plus
// 64 KiB of console.
package vmtest
