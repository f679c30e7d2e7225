// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The machine's lifecycle on this host's KVM, with a guest of a few instructions: it counts in RAM, and ends or resets
 * when it is told to through RAM. Skipped where there is no /dev/kvm.
 */
#include <elf.h>
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "vmm/machine.h"
#include "vmm/x86_state.h"

#define COUNTER 0x300000
#define ORDER	0x300008
#define ENTRY	0x200000

enum order { ORDER_COUNT, ORDER_POWEROFF, ORDER_RESET };

static const uint8_t code[] = {
	0xff, 0x05, 0x00, 0x00, 0x30, 0x00,	  /* inc dword [COUNTER] */
	0x80, 0x3d, 0x08, 0x00, 0x30, 0x00, 0x00, /* cmp byte [ORDER], 0 */
	0x74, 0xf1,				  /* je to the beginning */
	0xa0, 0x08, 0x00, 0x30, 0x00,		  /* mov al, [ORDER] */
	0x3c, 0x01, 0x75, 0x09,			  /* cmp al, 1; jne reset */
	0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, /* S5 to the sleep register */
	0xeb, 0xfe,				  /* jmp to itself */
	0x66, 0xba, 0x02, 0x06, 0xb0, 0x01, 0xee, /* 1 to the reset register */
	0xeb, 0xfe,
};

struct kernel_image {
	Elf64_Ehdr header;
	Elf64_Phdr load, note;
	uint32_t pvh[5];
	uint8_t code[sizeof(code)];
};

struct fixture {
	struct config config;
	struct loop *loop;
	struct machine *machine;
	char *path;
	unsigned int events[MACHINE_EVENT_PANIC + 1];
	bool guest;
};

static uint32_t counter(struct fixture *f)
{
	return __atomic_load_n((uint32_t *)ram_ptr(machine_ram(f->machine), COUNTER, 4),
			       __ATOMIC_RELAXED);
}

static void order(struct fixture *f, enum order what)
{
	__atomic_store_n((uint8_t *)ram_ptr(machine_ram(f->machine), ORDER, 1), (uint8_t)what,
			 __ATOMIC_RELAXED);
}

static void on_event(void *opaque, enum machine_event event, bool guest)
{
	struct fixture *f = opaque;

	f->events[event]++;
	f->guest = guest;
	/* Told before the guest runs again: one order, one reset. */
	if (event == MACHINE_EVENT_RESET)
		order(f, ORDER_COUNT);
}

static void write_image(const char *path)
{
	struct kernel_image image = {
		.header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
			   .e_type = ET_EXEC,
			   .e_machine = EM_X86_64,
			   .e_phoff = offsetof(struct kernel_image, load),
			   .e_phentsize = sizeof(Elf64_Phdr),
			   .e_phnum = 2},
		.load = {.p_type = PT_LOAD,
			 .p_offset = offsetof(struct kernel_image, code),
			 .p_paddr = ENTRY,
			 .p_filesz = sizeof(code),
			 .p_memsz = sizeof(code)},
		.note = {.p_type = PT_NOTE,
			 .p_offset = offsetof(struct kernel_image, pvh),
			 .p_filesz = 20,
			 .p_memsz = 20},
		.pvh = {4, 4, 18, 0x006e6558, ENTRY},
	};

	memcpy(image.code, code, sizeof(code));
	g_assert_true(g_file_set_contents(path, (const char *)&image, sizeof(image), NULL));
}

static bool no_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		return false;
	g_test_skip("no /dev/kvm");
	return true;
}

static void set_up(struct fixture *f, gconstpointer data)
{
	struct machine_events events = {.opaque = f, .event = on_event};
	unsigned int cpus = GPOINTER_TO_UINT(data);
	int fd;

	log_level = LOG_ERROR;
	if (no_kvm())
		return;
	fd = g_file_open_tmp("tern-machine-XXXXXX", &f->path, NULL);
	close(fd);
	write_image(f->path);
	config_init(&f->config);
	f->config.name = strdup("unit");
	f->config.kernel = strdup(f->path);
	f->config.memory_bytes = 32 << 20;
	f->config.cpus = cpus;
	f->config.serial = SERIAL_OFF;
	f->config.sandbox = SANDBOX_OFF;
	f->config.rng = true;
	g_assert_cmpint(loop_new(&f->loop), ==, 0);
	g_assert_cmpint(machine_new(&f->machine, &f->config, f->loop, &events), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	if (!f->loop)
		return;
	machine_free(f->machine);
	loop_free(f->loop);
	config_fini(&f->config);
	g_unlink(f->path);
	g_free(f->path);
}

/* The guest executes: its counter moves within 10 s. */
static void assert_runs(struct fixture *f)
{
	uint32_t before = counter(f);

	/* The loop runs meanwhile: what the guest asked for before may still be under way. */
	for (int i = 0; i < 10000 && counter(f) == before; i++)
		loop_run_once(f->loop, 1);
	g_assert_cmpuint(counter(f), !=, before);
}

static void assert_stands(struct fixture *f)
{
	uint32_t before = counter(f);

	g_usleep(20000);
	g_assert_cmpuint(counter(f), ==, before);
}

/* Runs the loop until the event has come n times; 10 s at most. */
static void await(struct fixture *f, enum machine_event event, unsigned int n)
{
	for (int i = 0; i < 100 && f->events[event] < n; i++)
		loop_run_once(f->loop, 100);
	g_assert_cmpuint(f->events[event], ==, n);
}

static void test_start_pause_resume(struct fixture *f, gconstpointer data)
{
	if (!f->machine)
		return;
	g_assert_cmpint(machine_get_status(f->machine), ==, MACHINE_PRELAUNCH);
	g_assert_cmpint(machine_pause(f->machine), ==, 0);
	g_assert_cmpint(machine_start(f->machine), ==, 0);
	g_assert_cmpint(machine_start(f->machine), ==, -EBUSY);
	assert_runs(f);
	g_assert_cmpint(machine_pause(f->machine), ==, 0);
	g_assert_cmpint(machine_get_status(f->machine), ==, MACHINE_PAUSED);
	assert_stands(f);
	g_assert_cmpint(machine_pause(f->machine), ==, 0);
	g_assert_cmpint(machine_resume(f->machine), ==, 0);
	g_assert_cmpint(machine_resume(f->machine), ==, 0);
	assert_runs(f);
	g_assert_cmpuint(f->events[MACHINE_EVENT_STOP], ==, 1);
	g_assert_cmpuint(f->events[MACHINE_EVENT_RESUME], ==, 1);
	machine_shutdown(f->machine);
	g_assert_cmpint(machine_get_status(f->machine), ==, MACHINE_SHUTDOWN);
	assert_stands(f);
	g_assert_cmpint(machine_resume(f->machine), ==, -EBUSY);
	g_assert_cmpint(machine_reset(f->machine), ==, -EBUSY);
}

static void busy_wait_us(gint64 us)
{
	gint64 end = g_get_monotonic_time() + us;

	while (g_get_monotonic_time() < end)
		;
}

/*
 * No wake-up is lost, wherever on its way into the guest a vCPU is when it shall stop: the time between start and stop
 * goes through all microseconds that the way takes. A lost one costs the whole limit, and the pause fails.
 */
static void test_many_pauses(struct fixture *f, gconstpointer data)
{
	if (!f->machine)
		return;
	g_assert_cmpint(machine_start(f->machine), ==, 0);
	for (int i = 0; i < 1500; i++) {
		g_assert_cmpint(machine_pause(f->machine), ==, 0);
		g_assert_cmpint(machine_resume(f->machine), ==, 0);
		busy_wait_us(i % 150);
	}
	assert_runs(f);
}

/* ---- A device that refuses to pause ---- */

struct stubborn {
	struct device device;
	int refuse;
	unsigned int paused, resumed;
};

static int stubborn_pause(struct device *device)
{
	struct stubborn *s = (struct stubborn *)device;

	s->paused += !s->refuse;
	return s->refuse;
}

static void stubborn_resume(struct device *device)
{
	((struct stubborn *)device)->resumed++;
}

static void stubborn_reset(struct device *device)
{
}

static void stubborn_free(struct device *device)
{
}

static struct device_ops stubborn_ops = {
	.type = "stubborn",
	.reset = stubborn_reset,
	.pause = stubborn_pause,
	.resume = stubborn_resume,
	.free = stubborn_free,
};

static void test_a_device_that_cannot_pause(struct fixture *f, gconstpointer data)
{
	static struct stubborn willing, stubborn;

	if (!f->machine)
		return;
	stubborn_ops.table = STATE_NONE;
	device_init(&willing.device, &stubborn_ops, "willing", 100);
	device_init(&stubborn.device, &stubborn_ops, "stubborn", 101);
	g_assert_cmpint(device_list_add(machine_devices(f->machine), &willing.device), ==, 0);
	g_assert_cmpint(device_list_add(machine_devices(f->machine), &stubborn.device), ==, 0);
	stubborn.refuse = -ETIMEDOUT;
	g_assert_cmpint(machine_start(f->machine), ==, 0);
	g_assert_cmpint(machine_pause(f->machine), ==, -ETIMEDOUT);
	/* Everything is running again. */
	g_assert_cmpint(machine_get_status(f->machine), ==, MACHINE_RUNNING);
	g_assert_cmpuint(f->events[MACHINE_EVENT_STOP], ==, 0);
	g_assert_cmpuint(willing.paused, ==, 1);
	g_assert_cmpuint(willing.resumed, ==, 1);
	assert_runs(f);
	/* A reset that cannot stop the machine changes nothing either. */
	g_assert_cmpint(machine_reset(f->machine), ==, -ETIMEDOUT);
	assert_runs(f);
	stubborn.refuse = 0;
	g_assert_cmpint(machine_pause(f->machine), ==, 0);
	assert_stands(f);
	g_assert_cmpuint(stubborn.paused, ==, 1);
}

/* ---- What guests ask for ---- */

static void test_guest_powers_off(struct fixture *f, gconstpointer data)
{
	if (!f->machine)
		return;
	g_assert_cmpint(machine_start(f->machine), ==, 0);
	assert_runs(f);
	order(f, ORDER_POWEROFF);
	await(f, MACHINE_EVENT_SHUTDOWN, 1);
	g_assert_true(f->guest);
	g_assert_cmpint(machine_get_status(f->machine), ==, MACHINE_SHUTDOWN);
	assert_stands(f);
	g_assert_cmpint(machine_pause(f->machine), ==, -EBUSY);
}

static void test_guest_resets(struct fixture *f, gconstpointer data)
{
	uint8_t *loaded;

	if (!f->machine)
		return;
	g_assert_cmpint(machine_start(f->machine), ==, 0);
	for (unsigned int i = 1; i <= 3; i++) {
		assert_runs(f);
		/* The image is loaded again: what the guest did to itself is gone, other RAM is kept. */
		loaded = ram_ptr(machine_ram(f->machine), ENTRY + sizeof(code) - 1, 1);
		*loaded = 0x55;
		order(f, ORDER_RESET);
		await(f, MACHINE_EVENT_RESET, i);
		g_assert_cmpint(*loaded, ==, 0xfe);
		g_assert_cmpint(machine_get_status(f->machine), ==, MACHINE_RUNNING);
	}
	assert_runs(f);
}

static void test_reset_while_paused_stays_paused(struct fixture *f, gconstpointer data)
{
	if (!f->machine)
		return;
	g_assert_cmpint(machine_start(f->machine), ==, 0);
	assert_runs(f);
	g_assert_cmpint(machine_pause(f->machine), ==, 0);
	g_assert_cmpint(machine_reset(f->machine), ==, 0);
	g_assert_cmpint(machine_get_status(f->machine), ==, MACHINE_PAUSED);
	assert_stands(f);
	g_assert_cmpint(machine_resume(f->machine), ==, 0);
	assert_runs(f);
}

static void test_reset_without_its_image_is_an_error(struct fixture *f, gconstpointer data)
{
	if (!f->machine)
		return;
	g_assert_cmpint(machine_start(f->machine), ==, 0);
	assert_runs(f);
	g_assert_cmpint(truncate(f->path, 100), ==, 0);
	g_assert_cmpint(machine_reset(f->machine), ==, -EINVAL);
	g_assert_cmpint(machine_get_status(f->machine), ==, MACHINE_INTERNAL_ERROR);
	assert_stands(f);
	g_assert_cmpint(machine_start(f->machine), ==, -EBUSY);
}

/* ---- Save and load ---- */

static void test_saved_state_is_checked(struct fixture *f, gconstpointer data)
{
	struct machine_events events = {.opaque = f, .event = on_event};
	struct machine *other;
	struct buf state;

	if (!f->machine)
		return;
	buf_init(&state, 1 << 20);
	g_assert_cmpint(machine_save(f->machine, &state), ==, -EBUSY);
	g_assert_cmpint(machine_start(f->machine), ==, 0);
	g_assert_cmpint(machine_save(f->machine, &state), ==, -EBUSY);
	g_assert_cmpint(machine_load(f->machine, "", 0, CLOCK_MIGRATE), ==, -EBUSY);
	g_assert_cmpint(machine_pause(f->machine), ==, 0);
	g_assert_cmpint(machine_save(f->machine, &state), ==, 0);

	g_assert_cmpint(machine_new_incoming(&other, &f->config, f->loop, &events), ==, 0);
	g_assert_cmpint(machine_get_status(other), ==, MACHINE_INMIGRATE);
	g_assert_cmpint(machine_start(other), ==, -EBUSY);
	g_assert_cmpint(machine_load(other, state.bytes, state.len, CLOCK_MIGRATE), ==, 0);
	g_assert_cmpint(machine_load(other, state.bytes, state.len, CLOCK_MIGRATE), ==, -EBUSY);
	machine_free(other);

	/* Any byte wrong: an error or another value, never a crash. Every 13th, for time. */
	for (size_t i = 0; i < state.len; i += 13) {
		uint8_t was = state.bytes[i];

		if (i % 39 == 0)
			continue;
		state.bytes[i] ^= 0xff;
		g_assert_cmpint(machine_new_incoming(&other, &f->config, f->loop, &events), ==, 0);
		if (machine_load(other, state.bytes, state.len, CLOCK_MIGRATE))
			g_assert_cmpint(machine_start(other), ==, -EBUSY);
		machine_free(other);
		state.bytes[i] = was;
		if (i > 3000)
			break;
	}
	buf_fini(&state);
}

/* ---- What the guest was told ---- */

/* x86_state.c's table, from which a state of one's own can be made. */
static const struct state_table *cpu_table(void)
{
	for (size_t i = 0; x86_register_tables[i]; i++)
		if (!strcmp(x86_register_tables[i]->name, "x86_cpu"))
			return x86_register_tables[i];
	g_assert_not_reached();
}

static int check_told(struct fixture *f, const void *bytes, size_t len)
{
	struct machine_events events = {.opaque = f, .event = on_event};
	struct machine *other;
	int error;

	g_assert_cmpint(machine_new_incoming(&other, &f->config, f->loop, &events), ==, 0);
	error = machine_check_told(other, bytes, len);
	machine_free(other);
	return error;
}

static int check_changed(struct fixture *f, const struct x86_cpu *cpu)
{
	struct buf changed;
	int error;

	buf_init(&changed, 1 << 20);
	g_assert_cmpint(state_save(cpu_table(), 0, cpu, &changed), ==, 0);
	error = check_told(f, changed.bytes, changed.len);
	g_test_message("%s", fail_text());
	buf_fini(&changed);
	return error;
}

/* It is saved of a running guest; each thing that this host cannot show is refused by its name. */
static void test_what_the_guest_was_told(struct fixture *f, gconstpointer data)
{
	struct state_set *set;
	struct x86_cpu cpu, changed;
	struct buf told;
	uint32_t leaf7 = 0;

	if (!f->machine)
		return;
	log_level = LOG_NONE;
	buf_init(&told, 1 << 20);
	g_assert_cmpint(machine_start(f->machine), ==, 0);
	assert_runs(f);
	g_assert_cmpint(machine_save_told(f->machine, &told), ==, 0);
	assert_runs(f);
	g_assert_cmpint(machine_check_told(f->machine, told.bytes, told.len), ==, -EBUSY);
	g_assert_cmpint(check_told(f, told.bytes, told.len), ==, 0);
	g_assert_cmpint(check_told(f, told.bytes, 0), <, 0);
	for (size_t n = 1; n < told.len; n = n < 64 ? n + 1 : n * 2)
		g_assert_cmpint(check_told(f, told.bytes, n), ==, -EBADMSG);

	g_assert_cmpint(state_set_parse(&set, told.bytes, told.len), ==, 0);
	g_assert_cmpint(state_load(set, cpu_table(), 0, &cpu), ==, 0);
	state_set_free(set);
	g_assert_cmpint(check_changed(f, &cpu), ==, 0);
	while (leaf7 < cpu.n_function && !(cpu.function[leaf7] == 7 && cpu.index[leaf7] == 0))
		leaf7++;
	g_assert_cmpuint(leaf7, <, cpu.n_function);
	changed = cpu;
	changed.ebx[leaf7] |= 1 << 14; /* MPX, which no kernel offers any more */
	g_assert_cmpint(check_changed(f, &changed), ==, -ENOTSUP);
	g_assert_nonnull(strstr(fail_text(), "0x7.0 EBX bit 14"));
	changed = cpu;
	changed.tsc_khz = 0;
	g_assert_cmpint(check_changed(f, &changed), ==, -EBADMSG);
	changed = cpu;
	changed.n_eax--;
	g_assert_cmpint(check_changed(f, &changed), ==, -EBADMSG);

	/* What this Tern does not know of is not passed over. */
	g_assert_cmpint(state_save(cpu_table(), 1, &cpu, &told), ==, 0);
	g_assert_cmpint(check_told(f, told.bytes, told.len), ==, -EBADMSG);
	buf_fini(&told);
}

#define ADD(path, cpus, fn) \
	g_test_add(path, struct fixture, GUINT_TO_POINTER(cpus), set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("/machine/lifecycle", 2, test_start_pause_resume);
	ADD("/machine/many_pauses/1", 1, test_many_pauses);
	ADD("/machine/many_pauses/4", 4, test_many_pauses);
	ADD("/machine/stubborn_device", 2, test_a_device_that_cannot_pause);
	ADD("/machine/guest_poweroff", 1, test_guest_powers_off);
	ADD("/machine/guest_reset", 2, test_guest_resets);
	ADD("/machine/reset_paused", 1, test_reset_while_paused_stays_paused);
	ADD("/machine/reset_without_image", 1, test_reset_without_its_image_is_an_error);
	ADD("/machine/told", 2, test_what_the_guest_was_told);
	ADD("/machine/state", 2, test_saved_state_is_checked);
	return g_test_run();
}
