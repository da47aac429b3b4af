# probe.S: a boot sector that does what an ordinary kernel does first: page
# tables, long mode, an IDT, timer interrupts that wake it from hlt, and then
# some work. It prints a token and ends QEMU through isa-debug-exit.
#
# The work matters. There are KVM modules that run a guest's kernel mode by
# emulating one instruction after the other (kvm-pvm without a paravirtual
# kernel): every feature below works there, at a millionth of the speed, and a
# kernel seems to hang while it decompresses itself. 100 million loops take
# 50 ms on a processor, half a second under TCG, and minutes there.
#
# Build: as -o probe.o probe.S
#        ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary -o probe.bin probe.o

	.set PML4, 0x1000
	.set PDPT, 0x2000
	.set PD, 0x3000
	.set IDT, 0x4000
	.set VECTOR, 32			# where the PIC's IRQ 0, the timer, arrives
	.set COM1, 0x3f8
	.set DEBUG_EXIT, 0xf4		# QEMU exits with (value << 1) | 1
	.set LOOPS, 100000000

	.code16
	.globl _start
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	cld

	# Page tables: the first 2 MiB, identity mapped by one large page.
	movl	$PML4, %edi
	movw	$0x4000 / 4, %cx
	xorl	%eax, %eax
	rep stosl
	movw	$PDPT + 3, PML4
	movw	$PD + 3, PDPT
	movw	$0x83, PD

	# One interrupt gate, for the timer.
	movw	$tick, IDT + VECTOR * 16
	movw	$8, IDT + VECTOR * 16 + 2
	movw	$0x8e00, IDT + VECTOR * 16 + 4

	# PIC: initialize, offset, cascade, 8086 mode, and only IRQ 0 let through.
	movb	$0x11, %al
	outb	%al, $0x20
	movb	$VECTOR, %al
	outb	%al, $0x21
	movb	$4, %al
	outb	%al, $0x21
	movb	$1, %al
	outb	%al, $0x21
	movb	$0xfe, %al
	outb	%al, $0x21

	# PIT channel 0, mode 2: 1193182 Hz / 11932 = 100 Hz.
	movb	$0x34, %al
	outb	%al, $0x43
	movb	$0x9c, %al
	outb	%al, $0x40
	movb	$0x2e, %al
	outb	%al, $0x40

	# Long mode: CR4.PAE, CR3, EFER.LME, CR0.PG and PE.
	lgdtl	gdtr
	lidtl	idtr
	movl	%cr4, %eax
	orb	$0x20, %al
	movl	%eax, %cr4
	movl	$PML4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orw	$0x100, %ax
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000001, %eax
	movl	%eax, %cr0
	ljmpl	$8, $long

	.code64
long:
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss

	movl	$LOOPS, %ecx
1:	decl	%ecx
	jnz	1b

	xorl	%ebx, %ebx
	sti
2:	hlt
	cmpl	$3, %ebx
	jb	2b
	cli

	movl	$token, %esi
	movw	$COM1, %dx
3:	lodsb
	testb	%al, %al
	jz	4f
	outb	%al, %dx
	jmp	3b
4:	movb	$0x10, %al
	outb	%al, $DEBUG_EXIT
5:	hlt
	jmp	5b

tick:	pushq	%rax
	incl	%ebx
	movb	$0x20, %al
	outb	%al, $0x20
	popq	%rax
	iretq

gdt:	.quad	0
	.quad	0x00209a0000000000	# 64-bit code, ring 0
gdtr:	.word	15
	.long	gdt
idtr:	.word	(VECTOR + 1) * 16 - 1
	.long	IDT
token:	.asciz	"nodesmith probe\r\n"

	.org	510
	.word	0xaa55
