// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Everything that a guest programmed into its GICv3 and ITS: saved, loaded, and put back to reset.
 *
 * Theory of operation. Distributor, redistributors and CPU interfaces are register files behind KVM's attribute calls,
 * all vCPUs parked. The ITS keeps its mappings in the guest's own memory, but only when it is told to
 * (ITS_SAVE_TABLES, then the LPIs' pending tables): that writes guest RAM without a vCPU, so the last harvest comes
 * after arm64_gic_save(). The order of loading is KVM's (arm-vgic-its.rst, "ITS Restore Sequence"): memory and vCPUs,
 * distributor and redistributors, CPU interfaces; then, when MSI routes are back, the ITS: IIDR (it names the tables' format),
 * CBASER, the rest with CREADR after CBASER (which clears it), the tables, and GITS_CTLR, which switches it on, last.
 *
 * KVM's set-enable registers only set, so whatever is enabled is disabled first; reset is a load of zeros.
 * Registers: GIC architecture specification (IHI 0069), chapters 12.9 to 12.19.
 */
#include "vmm/arm64.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

/* Shared interrupts: from 32 on, in words of 32, 16 (configuration), 4 (priority) and 1 (route). */
#define NSPI	   (ARM64_NR_IRQS - 32)
#define SPI_WORDS  (NSPI / 32)
#define SPI_CONFIG (NSPI / 16)
#define SPI_PRIO   (NSPI / 4)
#define NBASER	   8

/* clang-format off */
#define GICD_STATE(T, F, A, V)			\
	F(T, 1, u32, ctlr)			\
	F(T, 2, u32, statusr)			\
	F(T, 3, u32, iidr)			\
	F(T, 4, u32, typer)			\
	A(T, 5, u32, igroupr, SPI_WORDS)	\
	A(T, 6, u32, isenabler, SPI_WORDS)	\
	A(T, 7, u32, ispendr, SPI_WORDS)	\
	A(T, 8, u32, isactiver, SPI_WORDS)	\
	A(T, 9, u32, ipriorityr, SPI_PRIO)	\
	A(T, 10, u32, icfgr, SPI_CONFIG)	\
	A(T, 11, u64, irouter, NSPI)		\
	A(T, 12, u32, line_level, SPI_WORDS)
STATE_STRUCT(arm64_gicd, GICD_STATE);
STATE_TABLE(arm64_gicd, 1, GICD_STATE);

#define GICR_STATE(T, F, A, V)			\
	F(T, 1, u32, ctlr)			\
	F(T, 2, u32, statusr)			\
	F(T, 3, u32, waker)			\
	F(T, 4, u64, propbaser)			\
	F(T, 5, u64, pendbaser)			\
	F(T, 6, u32, igroupr0)			\
	F(T, 7, u32, isenabler0)		\
	F(T, 8, u32, ispendr0)			\
	F(T, 9, u32, isactiver0)		\
	A(T, 10, u32, ipriorityr, 8)		\
	A(T, 11, u32, icfgr, 2)			\
	F(T, 12, u32, line_level)		\
	F(T, 13, u64, icc_ctlr)			\
	F(T, 14, u64, icc_pmr)			\
	F(T, 15, u64, icc_bpr0)			\
	F(T, 16, u64, icc_bpr1)			\
	F(T, 17, u64, icc_sre)			\
	F(T, 18, u64, icc_igrpen0)		\
	F(T, 19, u64, icc_igrpen1)		\
	A(T, 20, u64, icc_ap0r, 4)		\
	A(T, 21, u64, icc_ap1r, 4)
STATE_STRUCT(arm64_gicr, GICR_STATE);
STATE_TABLE(arm64_gicr, 1, GICR_STATE);

#define ITS_STATE(T, F, A, V)			\
	F(T, 1, u64, ctlr)			\
	F(T, 2, u64, iidr)			\
	F(T, 3, u64, typer)			\
	F(T, 4, u64, cbaser)			\
	F(T, 5, u64, cwriter)			\
	F(T, 6, u64, creadr)			\
	A(T, 7, u64, baser, NBASER)
STATE_STRUCT(arm64_its, ITS_STATE);
STATE_TABLE(arm64_its, 1, ITS_STATE);

/* Offsets in the distributor's frame. */
enum {
	GICD_CTLR = 0x0, GICD_TYPER = 0x4, GICD_IIDR = 0x8, GICD_STATUSR = 0x10, GICD_IGROUPR = 0x80,
	GICD_ISENABLER = 0x100, GICD_ICENABLER = 0x180, GICD_ISPENDR = 0x200, GICD_ISACTIVER = 0x300,
	GICD_ICACTIVER = 0x380, GICD_IPRIORITYR = 0x400, GICD_ICFGR = 0xc00, GICD_IROUTER = 0x6000,
};
/* In a redistributor's two frames. */
enum {
	GICR_CTLR = 0x0, GICR_STATUSR = 0x10, GICR_WAKER = 0x14, GICR_PROPBASER = 0x70, GICR_PENDBASER = 0x78,
	GICR_IGROUPR0 = 0x10080, GICR_ISENABLER0 = 0x10100, GICR_ICENABLER0 = 0x10180, GICR_ISPENDR0 = 0x10200,
	GICR_ISACTIVER0 = 0x10300, GICR_ICACTIVER0 = 0x10380, GICR_IPRIORITYR = 0x10400, GICR_ICFGR0 = 0x10c00,
};
enum {
	GITS_CTLR = 0x0, GITS_IIDR = 0x4, GITS_TYPER = 0x8, GITS_CBASER = 0x80, GITS_CWRITER = 0x88,
	GITS_CREADR = 0x90, GITS_BASER = 0x100,
};
/* System registers of the CPU interface as op0:op1:CRn:CRm:op2. */
#define ICC(op1, crn, crm, op2) (3 << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))
#define ICC_PMR		ICC(0, 4, 6, 0)
#define ICC_BPR0	ICC(0, 12, 8, 3)
#define ICC_AP0R(n)	ICC(0, 12, 8, 4 + (n))
#define ICC_AP1R(n)	ICC(0, 12, 9, (n))
#define ICC_BPR1	ICC(0, 12, 12, 3)
#define ICC_CTLR	ICC(0, 12, 12, 4)
#define ICC_SRE		ICC(0, 12, 12, 5)
#define ICC_IGRPEN0	ICC(0, 12, 12, 6)
#define ICC_IGRPEN1	ICC(0, 12, 12, 7)
/* clang-format on */

#define ICC_CTLR_PRIBITS(ctlr) ((((ctlr) >> 8) & 7) + 1)
/* GICR_TYPER's and the attribute's form of an MPIDR: Aff3.Aff2.Aff1.Aff0 in the upper word. */
#define ATTR_MPIDR_SHIFT 32

/*
 * One walk serves reading and writing: `write` says which way values go, `error` keeps the first failure and makes the
 * rest do nothing.
 */
struct walk {
	int fd;
	uint64_t mpidr; /* in the attribute's position */
	bool write;
	int error;
};

static void attr(struct walk *walk, uint32_t group, uint64_t what, void *value)
{
	if (walk->error)
		return;
	walk->error = walk->write ? kvm_set_attr(walk->fd, group, what, value)
				  : kvm_get_attr(walk->fd, group, what, value);
}

static void dist32(struct walk *walk, uint64_t offset, uint32_t *value)
{
	attr(walk, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset, value);
}

static void dist32_array(struct walk *walk, uint64_t offset, uint32_t *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dist32(walk, offset + 4 * i, &values[i]);
}

static void redist32(struct walk *walk, uint64_t offset, uint32_t *value)
{
	attr(walk, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, walk->mpidr | offset, value);
}

static void redist64(struct walk *walk, uint64_t offset, uint64_t *value)
{
	uint32_t half[2] = {(uint32_t)*value, *value >> 32};

	redist32(walk, offset, &half[0]);
	redist32(walk, offset + 4, &half[1]);
	*value = half[0] | (uint64_t)half[1] << 32;
}

static void icc(struct walk *walk, uint64_t instruction, uint64_t *value)
{
	attr(walk, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, walk->mpidr | instruction, value);
}

static void its64(struct walk *walk, uint64_t offset, uint64_t *value)
{
	attr(walk, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, offset, value);
}

/* Level of the wires of 32 interrupts from `intid` on: private ones by the mpidr, shared ones whatever it is. */
static void line_level(struct walk *walk, uint32_t intid, uint32_t *value)
{
	uint64_t what = (uint64_t)VGIC_LEVEL_INFO_LINE_LEVEL
			<< KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT;

	attr(walk, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, walk->mpidr | what | intid, value);
}

/* Set-registers only set: clear everything through the clear-register first. */
static void set_after_clear(struct walk *walk, void (*reg)(struct walk *, uint64_t, uint32_t *),
			    uint64_t set, uint64_t clear, uint32_t *value)
{
	uint32_t ones = UINT32_MAX;

	if (walk->write)
		reg(walk, clear, &ones);
	reg(walk, set, value);
}

static void walk_distributor(struct walk *walk, struct arm64_gicd *gicd)
{
	const size_t first = 32; /* below are the private interrupts, each redistributor's own */

	dist32(walk, GICD_IIDR, &gicd->iidr);
	dist32(walk, GICD_CTLR, &gicd->ctlr);
	dist32(walk, GICD_STATUSR, &gicd->statusr);
	for (size_t i = 0; i < NSPI; i++) {
		uint32_t half[2] = {(uint32_t)gicd->irouter[i], gicd->irouter[i] >> 32};

		dist32_array(walk, GICD_IROUTER + 8 * (first + i), half, 2);
		gicd->irouter[i] = half[0] | (uint64_t)half[1] << 32;
	}
	dist32_array(walk, GICD_IGROUPR + first / 8, gicd->igroupr, SPI_WORDS);
	dist32_array(walk, GICD_ICFGR + first / 4, gicd->icfgr, SPI_CONFIG);
	dist32_array(walk, GICD_IPRIORITYR + first, gicd->ipriorityr, SPI_PRIO);
	for (size_t i = 0; i < SPI_WORDS; i++) {
		uint64_t at = first / 8 + 4 * i;

		set_after_clear(walk, dist32, GICD_ISENABLER + at, GICD_ICENABLER + at,
				&gicd->isenabler[i]);
		line_level(walk, first + 32 * i, &gicd->line_level[i]);
		dist32(walk, GICD_ISPENDR + at, &gicd->ispendr[i]);
		set_after_clear(walk, dist32, GICD_ISACTIVER + at, GICD_ICACTIVER + at,
				&gicd->isactiver[i]);
	}
}

static void walk_redistributor(struct walk *walk, struct arm64_gicr *gicr)
{
	/* The tables' addresses before the bit in CTLR that makes LPIs use them. */
	redist64(walk, GICR_PROPBASER, &gicr->propbaser);
	redist64(walk, GICR_PENDBASER, &gicr->pendbaser);
	redist32(walk, GICR_CTLR, &gicr->ctlr);
	redist32(walk, GICR_STATUSR, &gicr->statusr);
	redist32(walk, GICR_WAKER, &gicr->waker);
	redist32(walk, GICR_IGROUPR0, &gicr->igroupr0);
	for (size_t i = 0; i < ARRAY_SIZE(gicr->icfgr); i++)
		redist32(walk, GICR_ICFGR0 + 4 * i, &gicr->icfgr[i]);
	for (size_t i = 0; i < ARRAY_SIZE(gicr->ipriorityr); i++)
		redist32(walk, GICR_IPRIORITYR + 4 * i, &gicr->ipriorityr[i]);
	set_after_clear(walk, redist32, GICR_ISENABLER0, GICR_ICENABLER0, &gicr->isenabler0);
	line_level(walk, 0, &gicr->line_level);
	redist32(walk, GICR_ISPENDR0, &gicr->ispendr0);
	set_after_clear(walk, redist32, GICR_ISACTIVER0, GICR_ICACTIVER0, &gicr->isactiver0);
}

/* How many active-priority registers there are depends on how many priority bits (IHI 0069, ICC_AP0R<n>_EL1). */
static unsigned int active_registers(uint64_t icc_ctlr)
{
	switch (ICC_CTLR_PRIBITS(icc_ctlr)) {
	case 7:
		return 4;
	case 6:
		return 2;
	default:
		return 1;
	}
}

static void walk_cpu_interface(struct walk *walk, struct arm64_gicr *gicr)
{
	icc(walk, ICC_SRE, &gicr->icc_sre);
	icc(walk, ICC_CTLR, &gicr->icc_ctlr);
	icc(walk, ICC_IGRPEN0, &gicr->icc_igrpen0);
	icc(walk, ICC_IGRPEN1, &gicr->icc_igrpen1);
	icc(walk, ICC_PMR, &gicr->icc_pmr);
	icc(walk, ICC_BPR0, &gicr->icc_bpr0);
	icc(walk, ICC_BPR1, &gicr->icc_bpr1);
	for (unsigned int i = 0; i < active_registers(gicr->icc_ctlr); i++) {
		icc(walk, ICC_AP0R(i), &gicr->icc_ap0r[i]);
		icc(walk, ICC_AP1R(i), &gicr->icc_ap1r[i]);
	}
}

static struct walk walk_gic(const struct arch_vm *arch, unsigned int vcpu, bool write)
{
	return (struct walk){
		.fd = arch->gic_fd, .mpidr = arm64_mpidr(vcpu) << ATTR_MPIDR_SHIFT, .write = write};
}

static int read_gic(struct arch_vm *arch, struct arm64_gicd *gicd, struct arm64_gicr *gicr)
{
	struct walk walk = walk_gic(arch, 0, false);

	dist32(&walk, GICD_TYPER, &gicd->typer);
	walk_distributor(&walk, gicd);
	for (unsigned int i = 0; !walk.error && i < arch->nvcpus; i++) {
		walk = walk_gic(arch, i, false);
		walk_redistributor(&walk, &gicr[i]);
		walk_cpu_interface(&walk, &gicr[i]);
	}
	return walk.error;
}

static int write_gic(struct arch_vm *arch, struct arm64_gicd *gicd, struct arm64_gicr *gicr)
{
	struct walk walk = walk_gic(arch, 0, true);

	walk_distributor(&walk, gicd);
	for (unsigned int i = 0; !walk.error && i < arch->nvcpus; i++) {
		walk = walk_gic(arch, i, true);
		walk_redistributor(&walk, &gicr[i]);
		walk_cpu_interface(&walk, &gicr[i]);
	}
	return walk.error;
}

static void walk_its(struct walk *walk, struct arm64_its *its)
{
	its64(walk, GITS_IIDR, &its->iidr);
	/* One that no guest has written is zero, and stays so: KVM puts memory attributes into any that is written. */
	if (!walk->write || its->cbaser)
		its64(walk, GITS_CBASER, &its->cbaser);
	its64(walk, GITS_CREADR, &its->creadr);
	its64(walk, GITS_CWRITER, &its->cwriter);
	for (size_t i = 0; i < NBASER; i++)
		its64(walk, GITS_BASER + 8 * i, &its->baser[i]);
}

static int its_control(struct arch_vm *arch, int fd, uint64_t what)
{
	(void)arch;
	return kvm_set_attr(fd, KVM_DEV_ARM_VGIC_GRP_CTRL, what, NULL);
}

int arm64_gic_save(struct arch_vm *arch, struct buf *out)
{
	struct arm64_gicd gicd = {};
	struct arm64_gicr gicr[CONFIG_CPUS_MAX] = {};
	struct arm64_its its = {};
	struct walk walk = {.fd = arch->its_fd};
	int error;

	/* First into the tables, then the registers that say where they are. */
	error = its_control(arch, arch->its_fd, KVM_DEV_ARM_ITS_SAVE_TABLES);
	if (!error)
		error = its_control(arch, arch->gic_fd, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES);
	if (!error)
		error = read_gic(arch, &gicd, gicr);
	if (error)
		return error;
	its64(&walk, GITS_CTLR, &its.ctlr);
	its64(&walk, GITS_TYPER, &its.typer);
	walk_its(&walk, &its);
	if (walk.error)
		return walk.error;
	state_save(&arm64_gicd_table, 0, &gicd, out);
	for (unsigned int i = 0; i < arch->nvcpus; i++)
		state_save(&arm64_gicr_table, i, &gicr[i], out);
	return state_save(&arm64_its_table, 0, &its, out);
}

int arm64_gic_load(struct arch_vm *arch, struct state_set *in)
{
	struct arm64_gicd gicd, here = {};
	struct arm64_gicr gicr[CONFIG_CPUS_MAX];
	struct walk walk = walk_gic(arch, 0, false);
	int error = state_load(in, &arm64_gicd_table, 0, &gicd);

	for (unsigned int i = 0; !error && i < arch->nvcpus; i++)
		error = state_load(in, &arm64_gicr_table, i, &gicr[i]);
	if (error)
		return error;
	dist32(&walk, GICD_TYPER, &here.typer);
	if (walk.error)
		return walk.error;
	/* Lines and identifier bits: what the guest was told there is. */
	if (here.typer != gicd.typer)
		return fail(-EBADMSG, "interrupt controller: GICD_TYPER is %#x there and %#x here",
			    gicd.typer, here.typer);
	return write_gic(arch, &gicd, gicr);
}

int arm64_its_load(struct arch_vm *arch, struct state_set *in)
{
	struct arm64_its its;
	struct walk walk = {.fd = arch->its_fd, .write = true};
	int error = state_load(in, &arm64_its_table, 0, &its);

	if (error)
		return error;
	walk_its(&walk, &its);
	if (walk.error)
		return walk.error;
	error = its_control(arch, arch->its_fd, KVM_DEV_ARM_ITS_RESTORE_TABLES);
	if (error)
		return error;
	its64(&walk, GITS_CTLR, &its.ctlr);
	return walk.error;
}

int arm64_gic_reset(struct arch_vm *arch)
{
	struct arm64_gicd gicd = {};
	struct arm64_gicr gicr[CONFIG_CPUS_MAX] = {};
	int error = its_control(arch, arch->its_fd, KVM_DEV_ARM_ITS_CTRL_RESET);

	if (error)
		return error;
	/* What is not programmable stays as it reads. */
	error = read_gic(arch, &gicd, gicr);
	if (error)
		return error;
	gicd = (struct arm64_gicd){.iidr = gicd.iidr};
	for (unsigned int i = 0; i < arch->nvcpus; i++) {
		gicr[i] = (struct arm64_gicr){
			.icc_ctlr = gicr[i].icc_ctlr &
				    ~0x3ULL, /* EOImode and CBPR are the guest's */
			.icc_sre = gicr[i].icc_sre,
			.icfgr = {0xaaaaaaaa, 0}, /* SGIs are edges */
		};
	}
	return write_gic(arch, &gicd, gicr);
}
