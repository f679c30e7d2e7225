// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device tree that tells an arm64 guest what hardware there is, built by libfdt.
 * Sources: Devicetree Specification 0.4; the kernel's bindings for arm,gic-v3, arm,armv8-timer, arm,psci, ns16550a,
 * arm,pl031, arm,pl061, gpio-keys, pci-host-ecam-generic and microsoft,vmgenid.
 *
 * libfdt's sequential writer keeps its first error: every call below adds to it, and the end asks once.
 */
#include "vmm/arm64_boot.h"

#include <errno.h>
#include <libfdt.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "devices/pl061.h"

enum phandle { PHANDLE_GIC = 1, PHANDLE_ITS, PHANDLE_CLOCK, PHANDLE_GPIO };

#define GIC_SPI	     0
#define GIC_PPI	     1
#define EDGE_RISING  1
#define LEVEL_HIGH   4
#define PCI_MEM32    0x02000000
#define PCI_MEM64    0x03000000
#define MASTER_CLOCK 24000000
#define SERIAL_CLOCK 1843200

/* The architecture's timer interrupts: secure, non-secure, virtual, hypervisor. */
static const uint32_t timer_ppis[] = {13, 14, 11, 10};

uint64_t arm64_mpidr(unsigned int index)
{
	/* KVM's reset_mpidr(): sixteen to a cluster, so that one SGI reaches them. */
	return (index & 0xf) | (uint64_t)((index >> 4) & 0xff) << 8 |
	       (uint64_t)((index >> 12) & 0xff) << 16;
}

struct writer {
	void *fdt;
	int error;
};

static void note(struct writer *w, int error)
{
	if (!w->error)
		w->error = error;
}

static void begin(struct writer *w, const char *format, uint64_t address)
{
	char name[64];

	snprintf(name, sizeof(name), format, (unsigned long long)address);
	note(w, fdt_begin_node(w->fdt, name));
}

static void end(struct writer *w)
{
	note(w, fdt_end_node(w->fdt));
}

static void text(struct writer *w, const char *name, const char *value)
{
	note(w, fdt_property_string(w->fdt, name, value));
}

static void flag(struct writer *w, const char *name)
{
	note(w, fdt_property(w->fdt, name, NULL, 0));
}

static void bytes(struct writer *w, const char *name, const void *value, int len)
{
	note(w, fdt_property(w->fdt, name, value, len));
}

#define CELLS(w, name, ...)                             \
	cells(w, name, (const uint32_t[]){__VA_ARGS__}, \
	      ARRAY_SIZE(((const uint32_t[]){__VA_ARGS__})))
static void cells(struct writer *w, const char *name, const uint32_t *values, size_t n)
{
	uint32_t big[64];

	for (size_t i = 0; i < n && i < ARRAY_SIZE(big); i++)
		big[i] = cpu_to_fdt32(values[i]);
	bytes(w, name, big, n * sizeof(big[0]));
}

#define HI(v) ((uint32_t)((uint64_t)(v) >> 32))
#define LO(v) ((uint32_t)(v))

static void reg(struct writer *w, uint64_t address, uint64_t size)
{
	CELLS(w, "reg", HI(address), LO(address), HI(size), LO(size));
}

static void write_chosen(struct writer *w, const struct arm64_fdt_input *in)
{
	begin(w, "chosen", 0);
	text(w, "bootargs", in->cmdline);
	if (in->serial)
		text(w, "stdout-path", "/serial@9000000");
	if (in->initrd_end > in->initrd) {
		CELLS(w, "linux,initrd-start", HI(in->initrd), LO(in->initrd));
		CELLS(w, "linux,initrd-end", HI(in->initrd_end), LO(in->initrd_end));
	}
	bytes(w, "kaslr-seed", in->seed, 8);
	bytes(w, "rng-seed", in->seed + 8, sizeof(in->seed) - 8);
	end(w);
}

static void write_memory(struct writer *w, const struct arch_layout *layout)
{
	const struct ram_range *ram = &layout->ram.range[0];

	begin(w, "memory@%llx", ARM64_FDT);
	text(w, "device_type", "memory");
	reg(w, ARM64_FDT, ram->gpa + ram->size_bytes - ARM64_FDT);
	end(w);
}

static void write_cpus(struct writer *w, unsigned int nvcpus)
{
	begin(w, "cpus", 0);
	CELLS(w, "#address-cells", 2);
	CELLS(w, "#size-cells", 0);
	for (unsigned int i = 0; i < nvcpus; i++) {
		uint64_t mpidr = arm64_mpidr(i);

		begin(w, "cpu@%llx", mpidr);
		text(w, "device_type", "cpu");
		text(w, "compatible", "arm,armv8");
		text(w, "enable-method", "psci");
		CELLS(w, "reg", HI(mpidr), LO(mpidr));
		end(w);
	}
	end(w);
}

static void write_firmware(struct writer *w)
{
	static const char psci[] = "arm,psci-1.0\0arm,psci-0.2";

	begin(w, "psci", 0);
	bytes(w, "compatible", psci, sizeof(psci));
	text(w, "method", "hvc");
	end(w);
}

static void write_timer(struct writer *w)
{
	uint32_t interrupts[3 * ARRAY_SIZE(timer_ppis)];

	for (size_t i = 0; i < ARRAY_SIZE(timer_ppis); i++) {
		interrupts[3 * i] = GIC_PPI;
		interrupts[3 * i + 1] = timer_ppis[i];
		interrupts[3 * i + 2] = LEVEL_HIGH;
	}
	begin(w, "timer", 0);
	text(w, "compatible", "arm,armv8-timer");
	flag(w, "always-on");
	cells(w, "interrupts", interrupts, ARRAY_SIZE(interrupts));
	end(w);
}

static void write_gic(struct writer *w, unsigned int nvcpus)
{
	uint64_t redistributors = nvcpus * ARM64_GICR_BYTES;

	begin(w, "intc@%llx", ARM64_GICD);
	text(w, "compatible", "arm,gic-v3");
	flag(w, "interrupt-controller");
	flag(w, "ranges");
	CELLS(w, "#interrupt-cells", 3);
	CELLS(w, "#address-cells", 2);
	CELLS(w, "#size-cells", 2);
	CELLS(w, "reg", HI(ARM64_GICD), LO(ARM64_GICD), HI(ARM64_GICD_BYTES), LO(ARM64_GICD_BYTES),
	      HI(ARM64_GICR), LO(ARM64_GICR), HI(redistributors), LO(redistributors));
	CELLS(w, "phandle", PHANDLE_GIC);
	begin(w, "msi-controller@%llx", ARM64_ITS);
	text(w, "compatible", "arm,gic-v3-its");
	flag(w, "msi-controller");
	CELLS(w, "#msi-cells", 1);
	reg(w, ARM64_ITS, ARM64_ITS_BYTES);
	CELLS(w, "phandle", PHANDLE_ITS);
	end(w);
	end(w);
}

static void write_clock(struct writer *w)
{
	begin(w, "apb-pclk", 0);
	text(w, "compatible", "fixed-clock");
	CELLS(w, "#clock-cells", 0);
	CELLS(w, "clock-frequency", MASTER_CLOCK);
	text(w, "clock-output-names", "clk24mhz");
	CELLS(w, "phandle", PHANDLE_CLOCK);
	end(w);
}

static void interrupt(struct writer *w, uint32_t gsi)
{
	CELLS(w, "interrupts", GIC_SPI, gsi, EDGE_RISING);
}

static void write_serial(struct writer *w)
{
	begin(w, "serial@%llx", ARM64_SERIAL);
	text(w, "compatible", "ns16550a");
	reg(w, ARM64_SERIAL, 0x1000);
	CELLS(w, "clock-frequency", SERIAL_CLOCK);
	CELLS(w, "reg-shift", 0);
	CELLS(w, "reg-io-width", 1);
	interrupt(w, ARM64_GSI_SERIAL);
	end(w);
}

static void primecell(struct writer *w, const char *compatible, size_t len)
{
	bytes(w, "compatible", compatible, len);
	CELLS(w, "clocks", PHANDLE_CLOCK);
	text(w, "clock-names", "apb_pclk");
}

static void write_rtc(struct writer *w)
{
	static const char compatible[] = "arm,pl031\0arm,primecell";

	begin(w, "rtc@%llx", ARM64_RTC);
	primecell(w, compatible, sizeof(compatible));
	reg(w, ARM64_RTC, 0x1000);
	end(w);
}

static void write_power_key(struct writer *w)
{
	static const char compatible[] = "arm,pl061\0arm,primecell";

	begin(w, "gpio@%llx", ARM64_GPIO);
	primecell(w, compatible, sizeof(compatible));
	reg(w, ARM64_GPIO, 0x1000);
	flag(w, "gpio-controller");
	flag(w, "interrupt-controller");
	CELLS(w, "#gpio-cells", 2);
	CELLS(w, "#interrupt-cells", 2);
	interrupt(w, ARM64_GSI_GPIO);
	CELLS(w, "phandle", PHANDLE_GPIO);
	end(w);
	begin(w, "gpio-keys", 0);
	text(w, "compatible", "gpio-keys");
	begin(w, "power", 0);
	text(w, "label", "power");
	CELLS(w, "linux,code", KEY_POWER);
	CELLS(w, "gpios", PHANDLE_GPIO, PL061_POWER_KEY, 0);
	end(w);
	end(w);
}

static void write_pci(struct writer *w, const struct arch_layout *l)
{
	begin(w, "pcie@%llx", l->ecam);
	text(w, "compatible", "pci-host-ecam-generic");
	text(w, "device_type", "pci");
	reg(w, l->ecam, l->ecam_bytes);
	CELLS(w, "#address-cells", 3);
	CELLS(w, "#size-cells", 2);
	CELLS(w, "bus-range", 0, 0);
	CELLS(w, "ranges", PCI_MEM32, 0, LO(l->mmio32), 0, LO(l->mmio32), HI(l->mmio32_bytes),
	      LO(l->mmio32_bytes), PCI_MEM64, HI(l->mmio64), LO(l->mmio64), HI(l->mmio64),
	      LO(l->mmio64), HI(l->mmio64_bytes), LO(l->mmio64_bytes));
	CELLS(w, "msi-map", 0, PHANDLE_ITS, 0, 0x10000);
	flag(w, "dma-coherent");
	end(w);
}

static void write_vmgenid(struct writer *w)
{
	begin(w, "vmgenid@%llx", ARM64_VMGENID);
	text(w, "compatible", "microsoft,vmgenid");
	reg(w, ARM64_VMGENID, 0x1000);
	interrupt(w, ARM64_GSI_VMGENID);
	end(w);
}

int arm64_fdt_build(void *to, size_t size, const struct arm64_fdt_input *in)
{
	struct writer w = {.fdt = to};

	note(&w, fdt_create(to, size));
	note(&w, fdt_finish_reservemap(to));
	begin(&w, "", 0);
	text(&w, "compatible", "linux,dummy-virt");
	text(&w, "model", "Tern virtual machine");
	CELLS(&w, "#address-cells", 2);
	CELLS(&w, "#size-cells", 2);
	CELLS(&w, "interrupt-parent", PHANDLE_GIC);
	write_chosen(&w, in);
	write_memory(&w, in->layout);
	write_cpus(&w, in->nvcpus);
	write_firmware(&w);
	write_timer(&w);
	write_gic(&w, in->nvcpus);
	write_clock(&w);
	if (in->serial)
		write_serial(&w);
	write_rtc(&w);
	write_power_key(&w);
	write_pci(&w, in->layout);
	write_vmgenid(&w);
	end(&w);
	note(&w, fdt_finish(to));
	if (w.error)
		return fail(-ENOSPC, "device tree: %zu bytes: %s", size, fdt_strerror(w.error));
	return 0;
}
