// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A message-signalled interrupt that stays pending: what of the interrupt controller is in guest memory alone once it has
 * been saved (ITS tables, pending table). The ITS is given its tables and a device with two events; the first is raised
 * while the CPU interface is shut; after `seconds=`, or a `q`, in which the VM may be moved, it must be pending still, come
 * once, and the second be translated as was said.
 * Sources: Arm IHI 0069 (GICv3), chapters 5 (LPIs and the ITS) and 12 (registers).
 */
#include "arm64_boot.h"
#include "ktest.h"

#define TABLE_BYTES 0x10000ul /* also what its address must be a multiple of */
#define VALID	    (1ul << 63)

/* Of the distributor, the redistributor and the ITS. */
#define GICD_CTLR	0x0
#define GICD_CTLR_ON	0x12 /* affinity routing, group 1 */
#define GICR_CTLR	0x0
#define GICR_CTLR_LPIS	0x1
#define GICR_PROPBASER	0x70
#define GICR_PENDBASER	0x78
#define PROPBASER_16BIT 15
#define PENDBASER_ZERO	(1ul << 62)
#define GITS_CTLR	0x0
#define GITS_CBASER	0x80
#define GITS_CWRITER	0x88
#define GITS_CREADR	0x90
#define GITS_BASER(n)	(0x100 + 8 * (n))

#define BASER_64K	  (2ul << 8)
#define BASER_TYPE(baser) ((baser) >> 56 & 7)
#define TYPE_DEVICES	  1
#define TYPE_COLLECTIONS  4
#define NBASER		  8

enum { ITS_INT = 0x3, ITS_MAPD = 0x8, ITS_MAPC = 0x9, ITS_MAPTI = 0xa };

/* Nothing that a device of the machine uses. */
#define DEVICE	   0x42
#define EVENT_BITS 5
#define FIRST_LPI  8192
#define LPI_ON	   0xa1 /* priority 0xa0, enabled */
#define NO_IRQ	   1023
#define LIMIT_MS   100

/* One after the other, in free memory. */
enum { PROPERTIES, PENDING, DEVICES, COLLECTIONS, COMMANDS, TRANSLATIONS, NTABLES };

static struct {
	uint64_t tables;
	uint64_t next; /* command's offset */
} its;

static uint64_t table(unsigned int n)
{
	return its.tables + n * TABLE_BYTES;
}

static bool find_room(void)
{
	for (unsigned int i = 0; i < machine.nram; i++) {
		uint64_t start = machine.ram[i].start;
		uint64_t end = start + machine.ram[i].npages * PAGE_SIZE;

		if (start < machine.told_end)
			start = machine.told_end;
		its.tables = (start + TABLE_BYTES - 1) & ~(TABLE_BYTES - 1);
		if (its.tables + NTABLES * TABLE_BYTES <= end)
			return true;
	}
	return false;
}

/* The ITS obeys before the write to CWRITER returns, or soon. */
static bool command(uint64_t word0, uint64_t word1, uint64_t word2)
{
	volatile uint64_t *at = (volatile uint64_t *)(table(COMMANDS) + its.next);
	uint64_t start = clock_now();

	at[0] = word0 | (uint64_t)DEVICE << 32;
	at[1] = word1;
	at[2] = word2;
	at[3] = 0;
	its.next += 32;
	io_barrier();
	mmio_write64(arm64.its + GITS_CWRITER, its.next);
	while (mmio_read64(arm64.its + GITS_CREADR) != its.next)
		if (clock_now() - start > ms_to_ticks(LIMIT_MS))
			return false;
	return true;
}

static bool raise(unsigned int event)
{
	return command(ITS_INT, event, 0);
}

static void give_tables(void)
{
	memset((void *)its.tables, 0, NTABLES * TABLE_BYTES);
	memset((void *)table(PROPERTIES), LPI_ON, 2);
	io_barrier();
	mmio_write64(arm64.gicr + GICR_PROPBASER, table(PROPERTIES) | PROPBASER_16BIT);
	mmio_write64(arm64.gicr + GICR_PENDBASER, table(PENDING) | PENDBASER_ZERO);
	mmio_write32(arm64.gicr + GICR_CTLR, GICR_CTLR_LPIS);
	for (unsigned int i = 0; i < NBASER; i++) {
		uint64_t type = BASER_TYPE(mmio_read64(arm64.its + GITS_BASER(i)));

		if (type == TYPE_DEVICES)
			mmio_write64(arm64.its + GITS_BASER(i), VALID | BASER_64K | table(DEVICES));
		else if (type == TYPE_COLLECTIONS)
			mmio_write64(arm64.its + GITS_BASER(i),
				     VALID | BASER_64K | table(COLLECTIONS));
	}
	mmio_write64(arm64.its + GITS_CBASER, VALID | table(COMMANDS));
	mmio_write64(arm64.its + GITS_CWRITER, 0);
	mmio_write32(arm64.its + GITS_CTLR, 1);
}

/* Collection 0 is the first vCPU; events 0 and 1 are the first two LPIs, and go there. */
static bool map_events(void)
{
	return command(ITS_MAPC, 0, VALID) &&
	       command(ITS_MAPD, EVENT_BITS - 1, VALID | table(TRANSLATIONS)) &&
	       command(ITS_MAPTI, 0 | (uint64_t)FIRST_LPI << 32, 0) &&
	       command(ITS_MAPTI, 1 | (uint64_t)(FIRST_LPI + 1) << 32, 0);
}

/* ICC_PMR_EL1 and ICC_IGRPEN1_EL1 */
static void open_interface(bool open)
{
	__asm__ volatile("msr S3_0_C4_C6_0, %0; msr S3_0_C12_C12_7, %1; isb" ::"r"(0xfful),
			 "r"((uint64_t)open)
			 : "memory");
}

/* Takes what is pending and ends it (ICC_IAR1_EL1, ICC_EOIR1_EL1); NO_IRQ when nothing comes. */
static uint64_t take(void)
{
	uint64_t start = clock_now(), irq;

	do {
		__asm__ volatile("mrs %0, S3_0_C12_C12_0; dsb sy" : "=r"(irq)::"memory");
	} while (irq == NO_IRQ && clock_now() - start < ms_to_ticks(LIMIT_MS));
	if (irq != NO_IRQ)
		__asm__ volatile("msr S3_0_C12_C12_1, %0; isb" ::"r"(irq) : "memory");
	return irq;
}

static void wait_for_a_move(void)
{
	uint64_t end = clock_now() + ms_to_ticks(param_ms("seconds", 0));

	say("ktest: lpi is pending\n");
	console_flush();
	while (clock_now() < end && arch_console_get() != 'q')
		wait_us(1000);
}

void ktest_lpi(struct ktest *t)
{
	uint64_t irq;

	if (!arm64.its || !find_room()) {
		t->skipped = arm64.its ? "no room" : "no ITS";
		return;
	}
	arch_map_device(arm64.gicd, TABLE_BYTES);
	arch_map_device(arm64.gicr, TABLE_BYTES);
	arch_map_device(arm64.its, TABLE_BYTES);
	open_interface(false);
	mmio_write32(arm64.gicd + GICD_CTLR, GICD_CTLR_ON);
	give_tables();
	KTEST_CHECK(t, map_events() && raise(0), "the ITS does not take a command");
	if (t->failures)
		return;
	wait_for_a_move();
	open_interface(true);
	irq = take();
	KTEST_CHECK(t, irq == FIRST_LPI, "%lu was pending", irq);
	irq = take();
	KTEST_CHECK(t, irq == NO_IRQ, "%lu came although nothing raised it", irq);
	KTEST_CHECK(t, raise(1), "the ITS does not take a command any more");
	irq = take();
	KTEST_CHECK(t, irq == FIRST_LPI + 1, "the second event is %lu", irq);
	open_interface(false);
}
