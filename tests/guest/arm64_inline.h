/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * arm64 instructions that the guest's C code uses. Device registers are reached by plain loads and stores without
 * write-back only: KVM can describe no others to a VMM.
 */
#ifndef GUEST_ARM64_INLINE_H
#define GUEST_ARM64_INLINE_H

/* A device register that is not aligned to its width faults. */
#define MMIO_MUST_ALIGN 1

static inline uint64_t clock_now(void)
{
	uint64_t count;

	__asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(count)::"memory");
	return count;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("yield" ::: "memory");
}

static inline void io_barrier(void)
{
	__asm__ volatile("dsb sy" ::: "memory");
}

#define MMIO_ACCESSORS(bits, type, load, store, form)                                          \
	static inline type mmio_read##bits(uint64_t at)                                        \
	{                                                                                      \
		type value;                                                                    \
                                                                                               \
		__asm__ volatile(load " %" form "0, [%1]" : "=r"(value) : "r"(at) : "memory"); \
		return value;                                                                  \
	}                                                                                      \
	static inline void mmio_write##bits(uint64_t at, type value)                           \
	{                                                                                      \
		__asm__ volatile(store " %" form "0, [%1]" ::"r"(value), "r"(at) : "memory");  \
	}
MMIO_ACCESSORS(8, uint8_t, "ldrb", "strb", "w")
MMIO_ACCESSORS(16, uint16_t, "ldrh", "strh", "w")
MMIO_ACCESSORS(32, uint32_t, "ldr", "str", "w")
MMIO_ACCESSORS(64, uint64_t, "ldr", "str", "x")
#undef MMIO_ACCESSORS

#endif
