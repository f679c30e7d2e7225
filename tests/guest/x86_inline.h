/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x86-64 instructions that the guest's C code uses; all of them work at privilege level 3. No cpuid: where only that
 * level runs natively, it answers with the host's values instead of the VM's.
 */
#ifndef GUEST_X86_INLINE_H
#define GUEST_X86_INLINE_H

static inline uint64_t clock_now(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* Orders what a device reads and writes; x86 only needs the compiler and store-to-load order. */
static inline void io_barrier(void)
{
	__asm__ volatile("lock; addl $0, -64(%%rsp)" ::: "memory", "cc");
}

#define MMIO_MUST_ALIGN 0

#define MMIO_ACCESSORS(bits, type)                                   \
	static inline type mmio_read##bits(uint64_t at)              \
	{                                                            \
		return *(volatile type *)at;                         \
	}                                                            \
	static inline void mmio_write##bits(uint64_t at, type value) \
	{                                                            \
		*(volatile type *)at = value;                        \
	}
MMIO_ACCESSORS(8, uint8_t)
MMIO_ACCESSORS(16, uint16_t)
MMIO_ACCESSORS(32, uint32_t)
MMIO_ACCESSORS(64, uint64_t)
#undef MMIO_ACCESSORS

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

#endif
