// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which devices a machine has, where they are, and in which order they are made: the same for both architectures, but
 * for clock and power control, which the architecture adds (arch_add_devices).
 *
 * PCI slots are part of what a guest sees and of saved state, so they follow from the configuration alone: disks from
 * slot 1, network cards behind the last possible disk, then the rest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "devices/serial.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_net.h"
#include "devices/virtio_rng.h"
#include "vmm/machine_internal.h"

#define SLOT_DISKS	1
#define SLOT_NETS	(SLOT_DISKS + CONFIG_DISKS_MAX)
#define SLOT_RNG	(SLOT_NETS + CONFIG_NETS_MAX)
#define DISK_QUEUES_MAX 4 /* unless the user says how many */
_Static_assert(SLOT_RNG < PCI_SLOTS, "every device has a slot");

static int add_serial(struct machine *machine)
{
	struct bus *bus = machine->layout.io_pio ? &machine->pio : &machine->mmio;
	struct serial_host host;
	struct serial *serial;
	int irq, error;

	error = serial_host_new(&machine->serial, &machine->config, machine->loop);
	if (error || machine->config.serial == SERIAL_OFF)
		return error;
	error = wiring_add_line(&machine->wiring, machine->layout.serial_gsi, &irq);
	if (error)
		return error;
	host = serial_host_ops(machine->serial);
	error = serial_new(&serial, machine->loop, "serial0", irq, &host);
	if (error)
		return error;
	serial_host_attach(machine->serial, serial);
	error = device_list_add(&machine->devices, serial_device(serial));
	return error ? error
		     : bus_add(bus, "serial0", machine->layout.serial, SERIAL_WINDOW_BYTES,
			       &serial_bus_ops, serial);
}

static void on_poweroff(void *opaque)
{
	machine_ask(opaque, REQUEST_POWEROFF);
}

static void on_reset(void *opaque)
{
	machine_ask(opaque, REQUEST_RESET);
}

static int add_platform(struct machine *machine)
{
	struct arch_board board = {
		.loop = machine->loop,
		.mmio = &machine->mmio,
		.pio = &machine->pio,
		.devices = &machine->devices,
		.wiring = &machine->wiring,
		.opaque = machine,
		.poweroff = on_poweroff,
		.reset = on_reset,
	};

	return arch_add_devices(machine->arch, &board);
}

static void notify_vmgenid(void *opaque)
{
	struct machine *machine = opaque;

	arch_notify_vmgenid(machine->arch);
}

static int add_vmgenid(struct machine *machine)
{
	uint8_t guid[VMGENID_BYTES];
	int error;

	if (getrandom(guid, sizeof(guid), 0) != sizeof(guid))
		return fail(-errno, "machine: random bytes: %s", strerror(errno));
	error = vmgenid_new(&machine->vmgenid, machine->ram, "vmgenid", guid, notify_vmgenid,
			    machine);
	return error ? error : device_list_add(&machine->devices, vmgenid_device(machine->vmgenid));
}

static int add_pci(struct machine *machine)
{
	const struct arch_layout *layout = &machine->layout;
	struct wiring wiring = wiring_for_devices(&machine->wiring);
	struct pci_windows windows = {
		.ecam = layout->ecam,
		.ecam_bytes = layout->ecam_bytes,
		.mmio32 = layout->mmio32,
		.mmio32_bytes = layout->mmio32_bytes,
		.mmio64 = layout->mmio64,
		.mmio64_bytes = layout->mmio64_bytes,
	};
	int error = pci_host_new(&machine->pci, &machine->mmio, &wiring, &windows);

	return error ? error : device_list_add(&machine->devices, &machine->pci->device);
}

static void enter_worker_sandbox(void *opaque, const char *thread_class)
{
	struct machine *machine = opaque;

	/* A worker that cannot close its sandbox must not serve a guest; it has nobody to tell. */
	if (sandbox_enter(machine->sandbox, SANDBOX_WORKER))
		abort();
}

/* What the guest is told of a disk: the image says it once; a VM that comes from elsewhere was told already. */
static int fix_geometry(struct config_disk *disk, const struct blk_image *image)
{
	if (image->size_bytes < disk->size_bytes)
		return fail(-EINVAL, "blk: %s: it has %llu bytes, the guest's disk %llu",
			    disk->path, (unsigned long long)image->size_bytes,
			    (unsigned long long)disk->size_bytes);
	if (!disk->size_bytes)
		disk->size_bytes = image->size_bytes;
	disk->block_bytes = image->block_bytes;
	return 0;
}

static int add_disk(struct machine *machine, const struct virtio_env *env, unsigned int index)
{
	struct config_disk *disk = &machine->config.disk[index];
	const struct blk_image_options image = {.path = disk->path,
						.fd = -1,
						.readonly = disk->readonly,
						.cached = disk->cached,
						.block_bytes = disk->block_bytes,
						.defer_lock = machine->incoming};
	struct virtio_blk_options options = {
		.serial = disk->serial,
		.nqueues = disk->nqueues,
		.thread_start = enter_worker_sandbox,
		.thread_opaque = machine,
	};
	struct device *device;
	char id[32];
	int error = blk_image_open(&options.image, &image);

	if (error)
		return error;
	error = fix_geometry(disk, options.image);
	if (error) {
		blk_image_free(options.image);
		return error;
	}
	snprintf(id, sizeof(id), "disk%u", index);
	error = virtio_blk_new(&device, env, id, SLOT_DISKS + index, &options);
	return error ? error : device_list_add(&machine->devices, device);
}

static int open_backend(const struct config_net *net, struct net_backend **backend)
{
	return net->kind == NET_TAP ? tap_open(backend, net->tap, net->npairs, NULL)
				    : passt_open(backend, -1);
}

/* The vhost of a card writes guest memory: what it writes is harvested with the rest. */
static int add_dirty_source(struct machine *machine, struct device *device)
{
	struct dirty_source source;

	if (!virtio_net_dirty_source(virtio_net_of(device), &source))
		return 0;
	return dirty_add_source(machine->dirty, &source);
}

static int add_net(struct machine *machine, const struct virtio_env *env, unsigned int index)
{
	const struct config_net *net = &machine->config.net[index];
	struct virtio_net_options options = {.npairs = net->npairs,
					     .offloads = net->offloads == OFFLOADS_ON,
					     .vhost = net->vhost};
	struct device *device;
	char id[32];
	int error = open_backend(net, &options.backend);

	if (error)
		return error;
	memcpy(options.mac, net->mac, sizeof(options.mac));
	snprintf(id, sizeof(id), "net%u", index);
	error = virtio_net_new(&device, env, id, SLOT_NETS + index, &options);
	if (!error)
		error = device_list_add(&machine->devices, device);
	return error ? error : add_dirty_source(machine, device);
}

static int add_rng(struct machine *machine, const struct virtio_env *env)
{
	struct device *device;
	int error = virtio_rng_new(&device, env, "rng0", SLOT_RNG);

	return error ? error : device_list_add(&machine->devices, device);
}

static int add_virtio(struct machine *machine)
{
	struct virtio_env env = {
		.pci = machine->pci, .ram = machine->ram, .loop = machine->io_loop};
	int error = 0;

	for (unsigned int i = 0; i < machine->config.ndisks && !error; i++)
		error = add_disk(machine, &env, i);
	for (unsigned int i = 0; i < machine->config.nnets && !error; i++)
		error = add_net(machine, &env, i);
	if (!error && machine->config.rng)
		error = add_rng(machine, &env);
	return error;
}

/* A card's address from the VM's name and the card's index, locally administered (FNV-1a). */
static void derive_mac(uint8_t mac[6], const char *name, unsigned int index)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 0x100000001b3ULL;
	hash = (hash ^ index) * 0x100000001b3ULL;
	for (unsigned int i = 0; i < 6; i++)
		mac[i] = hash >> (8 * i);
	mac[0] = (mac[0] & 0xfc) | 2; /* locally administered, one receiver */
}

/* A random UUID: version 4, variant 1 (RFC 9562, section 5.4). */
static int make_uuid(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16)
		return fail(-errno, "machine: random bytes: %s", strerror(errno));
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	return 0;
}

/* A path means the same file to whoever the configuration goes to on a host with the same files. */
static int make_absolute(char **path)
{
	AUTO_FREE char *here = NULL;
	char *whole;

	if (!*path || **path == '/')
		return 0;
	here = getcwd(NULL, 0);
	if (!here)
		return fail(-errno, "machine: working directory: %s", strerror(errno));
	if (asprintf(&whole, "%s/%s", here, *path) < 0)
		return fail(-ENOMEM, "machine: no memory");
	free(*path);
	*path = whole;
	return 0;
}

static int make_paths_absolute(struct config *config)
{
	int error = make_absolute(&config->kernel);

	if (!error)
		error = make_absolute(&config->initrd);
	if (!error)
		error = make_absolute(&config->serial_path);
	for (unsigned int i = 0; i < config->ndisks && !error; i++)
		error = make_absolute(&config->disk[i].path);
	return error;
}

int board_resolve(struct config *config)
{
	static const uint8_t none[16];
	int error = make_paths_absolute(config);

	if (error)
		return error;
	for (unsigned int i = 0; i < config->ndisks; i++) {
		if (!config->disk[i].nqueues)
			config->disk[i].nqueues = config->cpus < DISK_QUEUES_MAX ? config->cpus
										 : DISK_QUEUES_MAX;
	}
	for (unsigned int i = 0; i < config->nnets; i++) {
		if (!memcmp(config->net[i].mac, none, 6))
			derive_mac(config->net[i].mac, config->name ? config->name : "", i);
		if (!config->net[i].npairs)
			config->net[i].npairs = 1;
		if (config->net[i].offloads == OFFLOADS_OF_KIND)
			config->net[i].offloads = config->net[i].kind == NET_TAP ? OFFLOADS_ON
										 : OFFLOADS_OFF;
	}
	return memcmp(config->uuid, none, 16) ? 0 : make_uuid(config->uuid);
}

/* The host bridge comes before its functions, for devices are freed last first. */
int board_new(struct machine *machine)
{
	int error = add_serial(machine);

	if (!error)
		error = add_platform(machine);
	if (!error)
		error = add_vmgenid(machine);
	if (!error)
		error = add_pci(machine);
	return error ? error : add_virtio(machine);
}

/* ---- Hand-over ---- */

static struct virtio_blk *disk_at(struct machine *machine, unsigned int index)
{
	return virtio_blk_of(machine->devices.device[index]);
}

int machine_release_disks(struct machine *machine)
{
	int error = 0;
	unsigned int i;

	for (i = 0; i < machine->devices.n && !error; i++) {
		if (disk_at(machine, i))
			error = virtio_blk_release(disk_at(machine, i));
	}
	/* The one that failed still holds its lock; those before it take theirs again. */
	for (unsigned int j = 0; error && j + 1 < i; j++) {
		if (disk_at(machine, j) && virtio_blk_acquire(disk_at(machine, j)))
			log_error("machine: %s: its lock could not be taken again",
				  machine->devices.device[j]->id);
	}
	return error;
}

int machine_acquire_disks(struct machine *machine)
{
	int error = 0;
	unsigned int i;

	for (i = 0; i < machine->devices.n && !error; i++) {
		if (disk_at(machine, i))
			error = virtio_blk_acquire(disk_at(machine, i));
	}
	for (unsigned int j = 0; error && j + 1 < i; j++) {
		if (disk_at(machine, j) && virtio_blk_release(disk_at(machine, j)))
			log_error("machine: %s: its lock is still held",
				  machine->devices.device[j]->id);
	}
	return error;
}
