// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vectors [SECONDS]: finds out whether a CPU's vector registers keep what was put into them, whatever happens to the
 * machine meanwhile. Every round fills all of them (SVE's Z, P and FFR where there is SVE, else what the architecture
 * has), spins without touching them, and compares.
 *
 *   vectors: start bytes=N              how many bytes of registers are watched
 *   vectors: rounds=N errors=N          each second; exit status 0, or 1 if there were errors
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include "tools.h"

#define STATE_MAX 16384 /* 32 vectors of 256 bytes and their predicates */
#define SPIN	  20000000

struct kind {
	const char *name;
	size_t bytes;
	/* Loads the registers from `from`, spins, and stores them to `to`. */
	void (*keep)(const uint8_t *from, uint8_t *to, uint64_t spin);
};

#ifdef __aarch64__

#ifndef HWCAP_SVE
#define HWCAP_SVE (1 << 22)
#endif

/* clang-format off */
#define ALL16(X) \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define ALL32(X) ALL16(X) \
	X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
#define Z_LOAD(n)  "ldr z" #n ", [%0, #" #n ", mul vl]\n"
#define Z_STORE(n) "str z" #n ", [%1, #" #n ", mul vl]\n"
#define P_LOAD(n)  "ldr p" #n ", [x9, #" #n ", mul vl]\n"
#define P_STORE(n) "str p" #n ", [x9, #" #n ", mul vl]\n"
#define CLOBBER_V \
	"v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", \
	"v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", \
	"v30", "v31"

static void keep_sve(const uint8_t *from, uint8_t *to, uint64_t spin)
{
	/* Vectors first, then the sixteen predicates at 32 vector lengths. */
	__asm__ volatile(".arch armv8-a+sve\n"
			 ALL32(Z_LOAD)
			 "addvl x9, %0, #31\n"
			 "addvl x9, x9, #1\n"
			 ALL16(P_LOAD)
			 "1: subs %2, %2, #1\n"
			 "b.ne 1b\n"
			 ALL32(Z_STORE)
			 "addvl x9, %1, #31\n"
			 "addvl x9, x9, #1\n"
			 ALL16(P_STORE)
			 : "+r"(from), "+r"(to), "+r"(spin)
			 :
			 : "x9", "memory", "cc", CLOBBER_V);
}
/* clang-format on */

static size_t sve_bytes(void)
{
	uint64_t vector;

	__asm__(".arch armv8-a+sve\nrdvl %0, #1" : "=r"(vector));
	return 32 * vector + 16 * vector / 8;
}

#define V_LOAD(n)  "ldr q" #n ", [%0, #16 * " #n "]\n"
#define V_STORE(n) "str q" #n ", [%1, #16 * " #n "]\n"

static void keep_neon(const uint8_t *from, uint8_t *to, uint64_t spin)
{
	__asm__ volatile(ALL32(V_LOAD) "1: subs %2, %2, #1\n"
				       "b.ne 1b\n" ALL32(V_STORE)
			 : "+r"(from), "+r"(to), "+r"(spin)
			 :
			 : "memory", "cc", CLOBBER_V);
}

static struct kind choose(void)
{
	if (getauxval(AT_HWCAP) & HWCAP_SVE)
		return (struct kind){"sve", sve_bytes(), keep_sve};
	return (struct kind){"neon", 32 * 16, keep_neon};
}

#else

#define ALL16(X) \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define Y_LOAD(n)  "vmovdqu 32*" #n "(%0), %%ymm" #n "\n"
#define Y_STORE(n) "vmovdqu %%ymm" #n ", 32*" #n "(%1)\n"
#define X_LOAD(n)  "movdqu 16*" #n "(%0), %%xmm" #n "\n"
#define X_STORE(n) "movdqu %%xmm" #n ", 16*" #n "(%1)\n"
#define CLOBBER_X                                                                                \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
		"xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void keep_avx(const uint8_t *from, uint8_t *to, uint64_t spin)
{
	__asm__ volatile(ALL16(Y_LOAD) "1: dec %2\n"
				       "jnz 1b\n" ALL16(Y_STORE) "vzeroupper\n"
			 : "+r"(from), "+r"(to), "+r"(spin)
			 :
			 : "memory", "cc", CLOBBER_X);
}

static void keep_sse(const uint8_t *from, uint8_t *to, uint64_t spin)
{
	__asm__ volatile(ALL16(X_LOAD) "1: dec %2\n"
				       "jnz 1b\n" ALL16(X_STORE)
			 : "+r"(from), "+r"(to), "+r"(spin)
			 :
			 : "memory", "cc", CLOBBER_X);
}

static struct kind choose(void)
{
	if (__builtin_cpu_supports("avx"))
		return (struct kind){"avx", 16 * 32, keep_avx};
	return (struct kind){"sse", 16 * 16, keep_sse};
}

#endif

int vectors_main(int argc, char **argv)
{
	static uint8_t from[STATE_MAX], to[STATE_MAX];
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10), told = 0;
	uint64_t rounds = 0, errors = 0;
	struct kind kind = choose();

	if (kind.bytes > sizeof(from))
		return 2;
	printf("vectors: start kind=%s bytes=%zu\n", kind.name, kind.bytes);
	while (time(NULL) < end) {
		for (size_t i = 0; i < kind.bytes; i++)
			from[i] = (uint8_t)(i * 37 + rounds * 101 + 1);
		memset(to, 0, sizeof(to));
		kind.keep(from, to, SPIN);
		errors += memcmp(from, to, kind.bytes) != 0;
		rounds++;
		if (time(NULL) != told) {
			told = time(NULL);
			printf("vectors: rounds=%llu errors=%llu\n", (unsigned long long)rounds,
			       (unsigned long long)errors);
			fflush(stdout);
		}
	}
	return errors != 0;
}
