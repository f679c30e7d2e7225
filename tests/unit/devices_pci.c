// SPDX-License-Identifier: GPL-2.0-or-later
/* The host bridge and its functions: configuration space, BARs that move, MSI-X, and all of that saved and loaded. */
#include "devices/pci.h"

#include <errno.h>
#include <glib.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/unit/fake_guest.h"

/* A function with a BAR that remembers what was done to it, and MSI-X in another. */
struct card {
	struct pci_function pci;
	uint64_t offset, mapped_gpa;
	unsigned int reads, maps, unmaps, masters;
};

static struct card *card_of(struct pci_function *function)
{
	return CONTAINER_OF(function, struct card, pci);
}

static void card_read(struct pci_function *function, unsigned int bar, uint64_t offset, void *data,
		      unsigned int len)
{
	card_of(function)->reads++;
	card_of(function)->offset = offset;
	memset(data, 0x77, len);
}

static void card_mapped(struct pci_function *function, unsigned int bar, gpa_t gpa)
{
	if (bar == 0) {
		card_of(function)->maps++;
		card_of(function)->mapped_gpa = gpa;
	}
}

static void card_unmapped(struct pci_function *function, unsigned int bar, gpa_t gpa)
{
	if (bar == 0) {
		card_of(function)->unmaps++;
		card_of(function)->mapped_gpa = 0;
	}
}

static void card_master(struct pci_function *function, bool on)
{
	card_of(function)->masters++;
}

static const struct pci_function_ops card_ops = {
	.bar_read = card_read,
	.bar_mapped = card_mapped,
	.bar_unmapped = card_unmapped,
	.bus_master = card_master,
};

static const struct pci_identity card_identity = {
	.vendor = 0x1234, .device = 0x5678, .revision = 7, .class_code = 0xff0000};

static void card_init(struct card *card, struct guest *guest, unsigned int slot)
{
	static const uint8_t vendor_cap[] = {5, 1, 2};

	memset(card, 0, sizeof(*card));
	g_assert_cmpint(pci_function_init(&card->pci, guest->pci, slot, &card_identity, &card_ops),
			==, 0);
	g_assert_cmpint(pci_add_bar(&card->pci, 0, 0x8000), ==, 0);
	g_assert_cmpint(pci_add_capability(&card->pci, PCI_CAP_ID_VNDR, vendor_cap, NULL,
					   sizeof(vendor_cap)),
			==, 0x40);
	g_assert_cmpint(pci_add_msix(&card->pci, 1, 3), ==, 0);
	g_assert_cmpint(pci_function_publish(&card->pci), ==, 0);
}

struct fixture {
	struct guest guest;
	struct card card;
};

#define SLOT 3

static void set_up(struct fixture *f, gconstpointer data)
{
	g_assert_cmpint(guest_init(&f->guest), ==, 0);
	card_init(&f->card, &f->guest, SLOT);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	pci_function_fini(&f->card.pci);
	guest_fini(&f->guest);
}

static void identity(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	g_assert_cmphex(guest_config_read(g, 0, 0, 4), ==, 0x00081b36);
	g_assert_cmphex(guest_config_read(g, 0, PCI_CLASS_REVISION, 4), ==, 0x06000000);
	g_assert_cmphex(guest_config_read(g, SLOT, 0, 4), ==, 0x56781234);
	g_assert_cmphex(guest_config_read(g, SLOT, 1, 2), ==, 0x7812);
	g_assert_cmphex(guest_config_read(g, SLOT, PCI_CLASS_REVISION, 4), ==, 0xff000007);
	/* Nobody: empty slots, functions other than 0, buses other than 0. */
	g_assert_cmphex(guest_config_read(g, 4, 0, 4), ==, UINT32_MAX);
	g_assert_cmphex(guest_read(g, GUEST_ECAM + (SLOT << 15) + (1 << 12), 4), ==, UINT32_MAX);
	/* Extended space: no capabilities. */
	g_assert_cmphex(guest_config_read(g, SLOT, 0x100, 4), ==, 0);
	/* Both capabilities are found, and the list ends. */
	g_assert_cmphex(guest_find_capability(g, SLOT, PCI_CAP_ID_VNDR, 0), ==, 0x40);
	g_assert_cmphex(guest_find_capability(g, SLOT, PCI_CAP_ID_MSIX, 0), ==, 0x48);
	g_assert_cmphex(guest_find_capability(g, SLOT, PCI_CAP_ID_MSIX, 1), ==, 0);
	g_assert_cmphex(guest_config_read(g, SLOT, 0x48 + PCI_MSIX_FLAGS, 2), ==, 2);
	g_assert_cmphex(guest_config_read(g, SLOT, 0x48 + PCI_MSIX_TABLE, 4), ==, 2);
}

/* Across registers, pages, functions and the end of everything; what is read-only stays. */
static void any_access(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	uint8_t before[PCI_CONFIG_BYTES], ones[8];

	memset(ones, 0xff, sizeof(ones));
	memcpy(before, f->card.pci.state.config, sizeof(before));
	for (unsigned int offset = 0; offset < 4096 + 8; offset++) {
		for (unsigned int len = 1; len <= 8; len++) {
			bus_write(&g->mmio, GUEST_ECAM + (SLOT << 15) + offset, ones, len);
			bus_read(&g->mmio, GUEST_ECAM + (SLOT << 15) + offset, ones, len);
			memset(ones, 0xff, sizeof(ones));
		}
	}
	for (unsigned int i = 0; i < sizeof(before); i++)
		g_assert_cmphex(f->card.pci.state.config[i] & ~f->card.pci.writable[i], ==,
				before[i] & ~f->card.pci.writable[i]);
	/* The last bytes of the window, reaching past it. */
	g_assert_cmphex(guest_read(g, GUEST_ECAM + (1 << 20) - 4, 8), ==, UINT64_MAX);
	bus_write(&g->mmio, GUEST_ECAM + (1 << 20) - 4, ones, 8);
}

static void sizing(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	gpa_t gpa = guest_bar(g, SLOT, 0);

	g_assert_cmphex(gpa, >=, GUEST_MMIO32);
	g_assert_cmphex(gpa % 0x8000, ==, 0);
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_0, UINT32_MAX, 4);
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_1, UINT32_MAX, 4);
	g_assert_cmphex(guest_config_read(g, SLOT, PCI_BASE_ADDRESS_0, 4), ==, 0xffff8004);
	g_assert_cmphex(guest_config_read(g, SLOT, PCI_BASE_ADDRESS_1, 4), ==, 0xffffffff);
	/* A BAR that is not there is zero. */
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_4, UINT32_MAX, 4);
	g_assert_cmphex(guest_config_read(g, SLOT, PCI_BASE_ADDRESS_4, 4), ==, 0);
}

static void relocation(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	gpa_t gpa = guest_bar(g, SLOT, 0);
	uint64_t value;

	/* Off until memory decoding is on. */
	g_assert_false(bus_read(&g->mmio, gpa, &value, 8));
	guest_config_write(g, SLOT, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	g_assert_cmphex(f->card.mapped_gpa, ==, gpa);
	g_assert_cmphex(guest_read(g, gpa + 0x7ffc, 4), ==, 0x77777777);
	g_assert_cmphex(f->card.offset, ==, 0x7ffc);
	/* To the 64-bit window, with decoding on: half way it is nowhere. */
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_0, 0x00100000, 4);
	g_assert_cmphex(f->card.mapped_gpa, ==, 0);
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_1, 1, 4);
	g_assert_cmphex(f->card.mapped_gpa, ==, 0x100100000);
	g_assert_cmphex(guest_read(g, 0x100100004, 1), ==, 0x77);
	g_assert_false(bus_read(&g->mmio, gpa, &value, 8));
	/* Outside all windows it answers nowhere. */
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_1, 0x7fff, 4);
	g_assert_cmphex(f->card.mapped_gpa, ==, 0);
	/* Over the end of a window as well. */
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_1, 0, 4);
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_0, GUEST_MMIO32 + (1 << 20), 4);
	g_assert_cmphex(f->card.mapped_gpa, ==, 0);
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_0, GUEST_MMIO32 + (1 << 20) - 0x8000, 4);
	g_assert_cmphex(f->card.mapped_gpa, ==, GUEST_MMIO32 + (1 << 20) - 0x8000);
	guest_config_write(g, SLOT, PCI_COMMAND, 0, 2);
	g_assert_cmphex(f->card.mapped_gpa, ==, 0);
	g_assert_cmpuint(f->card.maps, ==, f->card.unmaps);
	/* After reset it is where it was at creation. */
	pci_function_reset(&f->card.pci);
	g_assert_cmphex(guest_bar(g, SLOT, 0), ==, gpa);
}

/* Two functions swap their addresses, decoding on all the while. */
static void swap(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	struct card other;
	gpa_t a, b;

	card_init(&other, g, 9);
	a = guest_bar(g, SLOT, 0);
	b = guest_bar(g, 9, 0);
	g_assert_cmphex(a, !=, b);
	guest_config_write(g, SLOT, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	guest_config_write(g, 9, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_0, (uint32_t)b, 4);
	g_assert_cmphex(f->card.mapped_gpa, ==, 0); /* b is taken */
	g_assert_cmphex(other.mapped_gpa, ==, b);
	guest_config_write(g, 9, PCI_BASE_ADDRESS_0, (uint32_t)a, 4);
	g_assert_cmphex(f->card.mapped_gpa, ==, b);
	g_assert_cmphex(other.mapped_gpa, ==, a);
	pci_function_fini(&other.pci);
	g_assert_cmphex(other.mapped_gpa, ==, 0);
	g_assert_cmphex(guest_config_read(g, 9, 0, 4), ==, UINT32_MAX);
}

static void bus_master(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	g_assert_false(pci_bus_master(&f->card.pci));
	guest_config_write(g, SLOT, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	g_assert_true(pci_bus_master(&f->card.pci));
	guest_config_write(g, SLOT, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
	guest_config_write(g, SLOT, PCI_COMMAND + 1, 0, 1);
	g_assert_cmpuint(f->card.masters, ==, 1);
	guest_config_write(g, SLOT, PCI_COMMAND, 0, 1);
	g_assert_false(pci_bus_master(&f->card.pci));
	g_assert_cmpuint(f->card.masters, ==, 2);
}

#define ENABLE	(PCI_MSIX_FLAGS_ENABLE)
#define MASKALL (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)

static uint32_t handle(struct fixture *f, unsigned int vector)
{
	return f->card.pci.msix.vector[vector].handle;
}

static uint64_t pending_bits(struct fixture *f)
{
	return guest_read(&f->guest, guest_bar(&f->guest, SLOT, 1) + 2048, 8);
}

static void msix(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	struct fake_vector *v = &g->wiring.vector[handle(f, 1)];

	guest_enable_pci(g, SLOT);
	guest_set_vector(g, SLOT, 1, 0x1fee01003, 0x55, false);
	/* Off: not an interrupt, and not a pending one later. */
	pci_msix_raise(&f->card.pci, 1);
	guest_msix_control(g, SLOT, ENABLE);
	g_assert_cmpuint(fake_delivered(&g->wiring, handle(f, 1)), ==, 0);
	g_assert_true(v->connected);
	g_assert_cmphex(v->message.address, ==, 0x1fee01000); /* the low two bits are zero */
	g_assert_cmphex(v->message.data, ==, 0x55);
	g_assert_cmphex(v->message.requester, ==, SLOT << 3);
	pci_msix_raise(&f->card.pci, 1);
	g_assert_cmpuint(fake_delivered(&g->wiring, handle(f, 1)), ==, 1);
	/* Masked by its entry: pends; unmasked with another message: that one goes out, once. */
	guest_set_vector(g, SLOT, 1, 0xfee00000, 0x66, true);
	g_assert_false(v->connected);
	pci_msix_raise(&f->card.pci, 1);
	pci_msix_raise(&f->card.pci, 1);
	g_assert_cmphex(pending_bits(f), ==, 2);
	g_assert_cmpuint(fake_delivered(&g->wiring, handle(f, 1)), ==, 1);
	guest_set_vector(g, SLOT, 1, 0xfee00000, 0x66, false);
	g_assert_cmpuint(fake_delivered(&g->wiring, handle(f, 1)), ==, 2);
	g_assert_cmphex(v->message.data, ==, 0x66);
	g_assert_cmphex(pending_bits(f), ==, 0);
	/* By the function, and by bus mastering. */
	guest_msix_control(g, SLOT, MASKALL);
	pci_msix_raise(&f->card.pci, 1);
	g_assert_cmphex(pending_bits(f), ==, 2);
	guest_config_write(g, SLOT, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	guest_msix_control(g, SLOT, ENABLE);
	g_assert_cmphex(pending_bits(f), ==, 2);
	guest_enable_pci(g, SLOT);
	g_assert_cmpuint(fake_delivered(&g->wiring, handle(f, 1)), ==, 3);
	/* Vectors that are not there. */
	pci_msix_raise(&f->card.pci, 3);
	g_assert_cmpint(pci_msix_eventfd(&f->card.pci, 3), ==, -1);
	g_assert_cmpint(pci_msix_eventfd(&f->card.pci, 2), >=, 0);
}

/* A kernel backend writes the eventfd itself; masked, that pends too. */
static void msix_outside_writer(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	int fd = pci_msix_eventfd(&f->card.pci, 0);

	guest_enable_pci(g, SLOT);
	irq_raise(fd); /* while MSI-X is off: never an interrupt */
	guest_msix_control(g, SLOT, ENABLE);
	g_assert_cmphex(pending_bits(f), ==, 0);
	irq_raise(fd);
	g_assert_cmphex(pending_bits(f), ==, 1); /* masked after reset */
	guest_set_vector(g, SLOT, 0, 0xfee00000, 1, false);
	g_assert_cmpuint(fake_delivered(&g->wiring, handle(f, 0)), ==, 1);
	irq_raise(fd);
	g_assert_cmpuint(fake_delivered(&g->wiring, handle(f, 0)), ==, 2);
}

static void msix_odd_access(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	gpa_t table;
	uint32_t saved[12];

	guest_enable_pci(g, SLOT);
	table = guest_bar(g, SLOT, 1);
	guest_set_vector(g, SLOT, 2, 0xfee01000, 0x99, true);
	memcpy(saved, f->card.pci.state.msix_table, sizeof(saved));
	/* Only whole words count; the pending bits are read-only; beyond the table there is nothing. */
	guest_write(g, table + 1, UINT32_MAX, 4);
	guest_write(g, table, UINT32_MAX, 2);
	guest_write(g, table + 4, UINT64_MAX, 8);
	guest_write(g, table + 2048, UINT64_MAX, 8);
	guest_write(g, table + 48, UINT64_MAX, 8);
	guest_write(g, table + 4092, UINT64_MAX, 8);
	g_assert_cmpmem(saved, sizeof(saved), f->card.pci.state.msix_table, sizeof(saved));
	g_assert_cmphex(guest_read(g, table + 48, 8), ==, 0);
	g_assert_cmphex(guest_read(g, table + 4092, 8), ==, 0);
	g_assert_cmphex(guest_read(g, table + 40, 1), ==, 0x99);
	g_assert_cmphex(guest_read(g, table + 2044, 8), ==, 0);
	/* Only the mask bit of vector control can be set. */
	guest_write(g, table + 44, UINT32_MAX, 4);
	g_assert_cmphex(guest_read(g, table + 44, 4), ==, 1);
}

/* A message that the host refuses leaves the interrupt pending, and the next good one sends it. */
static void msix_refused(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	guest_enable_pci(g, SLOT);
	guest_msix_control(g, SLOT, ENABLE);
	g->wiring.refuse = -EINVAL;
	guest_set_vector(g, SLOT, 0, 0xfee00000, 1, false);
	pci_msix_raise(&f->card.pci, 0);
	g_assert_cmphex(pending_bits(f), ==, 1);
	g->wiring.refuse = 0;
	guest_set_vector(g, SLOT, 0, 0xfee00000, 2, false);
	g_assert_cmpuint(fake_delivered(&g->wiring, handle(f, 0)), ==, 1);
}

static void save_and_load(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest, there;
	struct card twin;
	struct pci_state loaded;
	struct state_set *set;
	struct buf buf;

	guest_enable_pci(g, SLOT);
	guest_msix_control(g, SLOT, ENABLE);
	guest_set_vector(g, SLOT, 0, 0xfee00000, 1, false);
	guest_set_vector(g, SLOT, 1, 0xfee01000, 2, true);
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_1, 1, 4);
	guest_config_write(g, SLOT, PCI_BASE_ADDRESS_0, 0x10000, 4);
	pci_msix_raise(&f->card.pci, 1);
	buf_init(&buf, 1 << 16);
	g_assert_cmpint(pci_function_save(&f->card.pci, SLOT, &buf), ==, 0);
	g_assert_cmphex(pending_bits(f), ==, 2); /* saving took nothing away */

	g_assert_cmpint(guest_init(&there), ==, 0);
	card_init(&twin, &there, SLOT);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_cmpint(pci_function_load(&twin.pci, SLOT, set, &loaded), ==, 0);
	g_assert_cmphex(twin.mapped_gpa, ==, 0);
	pci_function_commit(&twin.pci, &loaded);
	g_assert_cmphex(twin.mapped_gpa, ==, 0x100010000);
	g_assert_true(pci_bus_master(&twin.pci));
	g_assert_true(there.wiring.vector[twin.pci.msix.vector[0].handle].connected);
	g_assert_cmpuint(fake_delivered(&there.wiring, twin.pci.msix.vector[0].handle), ==, 0);
	g_assert_cmphex(guest_read(&there, guest_bar(&there, SLOT, 1) + 2048, 8), ==, 2);
	guest_set_vector(&there, SLOT, 1, 0xfee01000, 2, false);
	g_assert_cmpuint(fake_delivered(&there.wiring, twin.pci.msix.vector[1].handle), ==, 1);
	state_set_free(set);
	pci_function_fini(&twin.pci);
	guest_fini(&there);
	buf_fini(&buf);
}

/* Loads f's card's state after `spoil` changed it; the error. */
static int load_spoiled(struct fixture *f, void (*spoil)(struct pci_state *state))
{
	struct pci_state state = f->card.pci.state, loaded;
	struct state_set *set;
	struct buf buf;
	int error;

	spoil(&state);
	buf_init(&buf, 1 << 16);
	g_assert_cmpint(state_save(pci_state_list, SLOT, &state, &buf), ==, 0);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	error = pci_function_load(&f->card.pci, SLOT, set, &loaded);
	state_set_free(set);
	buf_fini(&buf);
	return error;
}

static void spoil_nothing(struct pci_state *state)
{
}
static void spoil_identity(struct pci_state *state)
{
	state->config[PCI_DEVICE_ID] ^= 1;
}
static void spoil_vectors(struct pci_state *state)
{
	state->n_msix_table += 4;
}
static void spoil_pending(struct pci_state *state)
{
	state->msix_pending[0] = 1 << 3;
}
static void spoil_control(struct pci_state *state)
{
	state->msix_table[3] |= 2;
}

static void load_refuses(struct fixture *f, gconstpointer data)
{
	g_assert_cmpint(load_spoiled(f, spoil_nothing), ==, 0);
	g_assert_cmpint(load_spoiled(f, spoil_identity), ==, -EBADMSG);
	g_assert_cmpint(load_spoiled(f, spoil_vectors), ==, -EBADMSG);
	g_assert_cmpint(load_spoiled(f, spoil_pending), ==, -EBADMSG);
	g_assert_cmpint(load_spoiled(f, spoil_control), ==, -EBADMSG);
}

static void bounds(struct fixture *f, gconstpointer data)
{
	struct pci_function function = {};
	uint8_t body[200] = {};

	g_assert_cmpint(pci_function_init(&function, f->guest.pci, SLOT, &card_identity, &card_ops),
			==, -EEXIST);
	g_assert_cmpint(pci_function_init(&function, f->guest.pci, 0, &card_identity, &card_ops),
			==, -EEXIST);
	g_assert_cmpint(pci_function_init(&function, f->guest.pci, 32, &card_identity, &card_ops),
			==, -EINVAL);
	pci_function_fini(&function);
	g_assert_cmpint(pci_function_init(&function, f->guest.pci, 5, &card_identity, &card_ops),
			==, 0);
	g_assert_cmpint(pci_add_bar(&function, 0, 0x3000), ==, -EINVAL);
	g_assert_cmpint(pci_add_bar(&function, 3, 0x1000), ==, -EINVAL);
	g_assert_cmpint(pci_add_bar(&function, 0, 0x20000000), ==, -ENOSPC);
	/* Too large for what is left of the 32-bit window: the 64-bit one. */
	g_assert_cmpint(pci_add_bar(&function, 0, 0x100000), ==, 0);
	g_assert_cmphex(function.bar[0].reset_gpa, ==, GUEST_MMIO64);
	g_assert_cmpint(pci_add_bar(&function, 0, 0x1000), ==, -EINVAL);
	g_assert_cmpint(pci_add_msix(&function, 1, 0), ==, -EINVAL);
	g_assert_cmpint(pci_add_msix(&function, 1, PCI_MSIX_MAX + 1), ==, -EINVAL);
	g_assert_cmpint(pci_add_capability(&function, 9, body, NULL, sizeof(body)), ==, -ENOSPC);
	pci_function_fini(&function);
}

#define TEST(name, fn) g_test_add("/pci/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	log_level = LOG_ERROR;
	g_test_init(&argc, &argv, NULL);
	TEST("identity", identity);
	TEST("any-access", any_access);
	TEST("sizing", sizing);
	TEST("relocation", relocation);
	TEST("swap", swap);
	TEST("bus-master", bus_master);
	TEST("msix", msix);
	TEST("msix-outside-writer", msix_outside_writer);
	TEST("msix-odd-access", msix_odd_access);
	TEST("msix-refused", msix_refused);
	TEST("save-and-load", save_and_load);
	TEST("load-refuses", load_refuses);
	TEST("bounds", bounds);
	return g_test_run();
}
