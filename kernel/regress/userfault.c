// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM_MEM_USERFAULT, rule by rule, with one vCPU: what KVM_SET_USER_MEMORY_REGION2 accepts, which accesses exit and how,
 * and what each change of a slot does to them. Several vCPUs at once are in userfault_load.c, what only x86 has in
 * x86_userfault.c.
 */
#include <stdio.h>

#include "marked.h"
#include "ring.h"

enum verdict { WRONG, RIGHT, SKIPPED };

/* Of a test that answered SKIPPED. */
static const char *skip_reason;

struct fixture {
	struct vm vm;
	struct vcpu *vcpu;
	struct marked m;
	uint64_t exits;
};

static void setup(struct fixture *f, uint64_t npages, bool huge)
{
	vm_start(&f->vm, 1);
	f->vcpu = &f->vm.vcpu[0];
	f->exits = 0;
	marked_init(&f->m, &f->vm, npages, huge);
}

static enum verdict teardown(struct fixture *f, bool right)
{
	vm_destroy(&f->vm);
	marked_fini(&f->m);
	return right ? RIGHT : WRONG;
}

static void set(struct fixture *f, uint32_t flags)
{
	int error = marked_set(&f->m, flags);

	need(error == 0, "KVM_SET_USER_MEMORY_REGION2 with flags %#x: %d", flags, error);
}

/* One KVM_RUN that must be a userfault exit for @page. */
static bool exits_for(struct fixture *f, uint64_t page)
{
	enum stop stop;
	int64_t seen;

	do
		stop = vcpu_run(f->vcpu);
	while (stop == STOP_INTERRUPTED);
	if (stop != STOP_USERFAULT) {
		tap_note("no userfault exit for page %lu: %s", (unsigned long)page, vcpu_describe(f->vcpu, stop));
		return false;
	}
	seen = marked_page_of_exit(&f->m, f->vcpu);
	if (seen != (int64_t)page)
		tap_note("an exit for page %ld, not %lu", (long)seen, (unsigned long)page);
	return seen == (int64_t)page;
}

static bool finishes(struct fixture *f)
{
	enum stop stop;

	do
		stop = vcpu_run(f->vcpu);
	while (stop == STOP_INTERRUPTED);
	if (stop != STOP_DONE)
		tap_note("not done: %s", vcpu_describe(f->vcpu, stop));
	return stop == STOP_DONE;
}

/*
 * Runs @op over all pages. Each exit must be for a marked page, which is then given its stamp and unmarked.
 * -> whether all went as it should; f->exits counts.
 */
static bool walk_with(struct fixture *f, enum guest_op op, uint64_t gpa)
{
	struct work work = {
		.op = op, .gpa = gpa, .count = f->m.npages, .stride = PAGE, .value = STAMP, .step = 1
	};
	struct outcome outcome;
	enum stop stop;
	int64_t page;

	f->exits = 0;
	vcpu_give(f->vcpu, &work);
	while ((stop = vcpu_run(f->vcpu)) != STOP_DONE) {
		if (stop == STOP_INTERRUPTED)
			continue;
		if (stop != STOP_USERFAULT) {
			tap_note("%s", vcpu_describe(f->vcpu, stop));
			return false;
		}
		page = marked_page_of_exit(&f->m, f->vcpu);
		if (page < 0)
			return false;
		if (!is_marked(&f->m, (uint64_t)page)) {
			tap_note("an exit for page %ld, which is not marked", (long)page);
			return false;
		}
		*(uint64_t *)((char *)f->m.memory + page * (int64_t)PAGE) = STAMP + (uint64_t)page;
		unmark(&f->m, (uint64_t)page);
		f->exits++;
	}
	vcpu_outcome(f->vcpu, &outcome);
	if (outcome.mismatches)
		tap_note("%lu pages read wrong, the first is %lu", (unsigned long)outcome.mismatches,
			 (unsigned long)outcome.first);
	return outcome.mismatches == 0;
}

static bool walk(struct fixture *f, enum guest_op op, uint64_t exits)
{
	bool right = walk_with(f, op, f->m.gpa);

	if (f->exits != exits)
		tap_note("%lu exits, not %lu", (unsigned long)f->exits, (unsigned long)exits);
	return right && f->exits == exits;
}

/* What is written there would be overwritten by the stamp when an exit is resolved: the guest must not see it. */
static void scribble(struct fixture *f, uint64_t page)
{
	*(uint64_t *)((char *)f->m.memory + page * PAGE) = 0xbad;
}

/* Marks every third page, and spoils what is in it. -> how many */
static uint64_t mark_every_third(struct fixture *f)
{
	uint64_t i, n = 0;

	for (i = 2; i < f->m.npages; i += 3, n++) {
		mark(&f->m, i);
		scribble(f, i);
	}
	return n;
}

/* Memory on huge pages, all of it mapped by the vCPU while the flag is off. */
static void setup_mapped(struct fixture *f)
{
	setup(f, 2 * HUGE / PAGE, true);
	set(f, 0);
	need(walk(f, GUEST_CHECK, 0), "mapping");
}

/* Flags */

static enum verdict test_capability(void)
{
	struct vm vm;
	int answer;

	vm_create(&vm, 0);
	answer = vm_check(&vm, KVM_CAP_USERFAULT);
	vm_destroy(&vm);
	return answer == 1 ? RIGHT : WRONG;
}

static enum verdict test_old_ioctl(void)
{
	struct fixture f;
	bool right;

	setup(&f, 8, false);
	right = vm_set_slot(&f.vm, 1, UF, TEST_GPA, 8 * PAGE, f.m.memory) == -EINVAL;
	set(&f, 0);
	right = right && vm_set_slot(&f.vm, 1, UF, TEST_GPA, 8 * PAGE, f.m.memory) == -EINVAL;
	return teardown(&f, right);
}

/* A slot with the flag can be changed by the old ioctl, which knows of no flag: that turns it off. */
static enum verdict test_old_ioctl_turns_off(void)
{
	struct fixture f;
	bool right;

	setup(&f, 8, false);
	mark_all(&f.m);
	set(&f, UF);
	right = vm_set_slot(&f.vm, 1, 0, TEST_GPA, 8 * PAGE, f.m.memory) == 0 && walk(&f, GUEST_CHECK, 0);
	return teardown(&f, right);
}

static enum verdict test_unknown_flags(void)
{
	struct fixture f;
	bool right = true;
	int bit;

	setup(&f, 8, false);
	for (bit = 4; bit < 32; bit++)
		if (marked_set(&f.m, 1u << bit) != -EINVAL || marked_set(&f.m, UF | 1u << bit) != -EINVAL) {
			tap_note("flag %#x is accepted", 1u << bit);
			right = false;
		}
	return teardown(&f, right);
}

static bool refuses_bitmap(struct fixture *f, uint64_t address)
{
	uint64_t *bitmap = f->m.bitmap;
	int error;

	f->m.bitmap = (uint64_t *)address;
	error = marked_set(&f->m, UF);
	f->m.bitmap = bitmap;
	if (error != -EINVAL)
		tap_note("a bitmap at %#lx: %d", (unsigned long)address, error);
	return error == -EINVAL;
}

static enum verdict test_bitmap_alignment(void)
{
	struct fixture f;
	bool right = true;
	uint64_t i;

	setup(&f, 8, false);
	for (i = 1; i < 8; i++)
		right = refuses_bitmap(&f, (uintptr_t)f.m.bitmap + i) && right;
	/* The same when the flag is turned on later. */
	set(&f, 0);
	right = refuses_bitmap(&f, (uintptr_t)f.m.bitmap + 4) && right;
	return teardown(&f, right);
}

static enum verdict test_bitmap_access(void)
{
	struct fixture f;
	bool right;

	/* 128 MiB and a bit: the bitmap is longer than a page. The last one begins in user memory at best. */
	setup(&f, 8, false);
	memory_free(f.m.memory, f.m.npages * PAGE);
	f.m.npages = 32768 + 64;
	f.m.memory = mmap(NULL, f.m.npages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	need(f.m.memory != MAP_FAILED, "address space");
	right = refuses_bitmap(&f, 0xffff800000000000ull);
	right = refuses_bitmap(&f, 0xfffffffffffffff8ull) && right;
	right = refuses_bitmap(&f, 0x8000000000000000ull) && right;
	right = refuses_bitmap(&f, 0x7ffffffffffff000ull) && right;
	return teardown(&f, right);
}

static enum verdict test_bitmap_ignored(void)
{
	uint64_t *bitmap;
	struct fixture f;
	bool right;

	setup(&f, 8, false);
	bitmap = f.m.bitmap;
	f.m.bitmap = (uint64_t *)1;
	right = marked_set(&f.m, 0) == 0;
	f.m.bitmap = (uint64_t *)0xffff800000000001ull;
	right = right && marked_set(&f.m, 0) == 0 && marked_set(&f.m, LOG) == 0;
	f.m.bitmap = bitmap;
	return teardown(&f, right && walk(&f, GUEST_CHECK, 0));
}

static enum verdict test_bitmap_change(void)
{
	uint64_t other[4] = { 0 }, *first;
	struct fixture f;
	bool right;

	setup(&f, 8, false);
	mark(&f.m, 5);
	set(&f, UF);
	first = f.m.bitmap;
	f.m.bitmap = other;
	right = marked_set(&f.m, UF) == -EINVAL;
	right = marked_set(&f.m, UF | LOG) == -EINVAL && right;
	f.m.gpa += PAGE;
	right = marked_set(&f.m, UF) == -EINVAL && right;
	f.m.gpa -= PAGE;
	f.m.bitmap = first;
	right = marked_set(&f.m, UF) == 0 && right;
	return teardown(&f, walk(&f, GUEST_CHECK, 1) && right);
}

static enum verdict test_bitmap_change_when_off(void)
{
	uint64_t other[4] = { 1ull << 3 | 1ull << 6 }, *first;
	struct fixture f;
	bool right;

	setup(&f, 8, false);
	mark(&f.m, 5);
	set(&f, UF);
	set(&f, 0);
	first = f.m.bitmap;
	f.m.bitmap = other;
	set(&f, UF);
	right = walk(&f, GUEST_CHECK, 2);
	right = other[0] == 0 && right;
	set(&f, 0);
	f.m.bitmap = first;
	set(&f, UF);
	return teardown(&f, walk(&f, GUEST_CHECK, 1) && right);
}

/* Exits */

static enum verdict test_access(enum guest_op op)
{
	struct work work = { .op = op, .count = 1, .value = STAMP + 3 };
	struct outcome outcome;
	struct fixture f;
	bool right;
	char *page;

	setup(&f, 8, false);
	page = (char *)f.m.memory + 3 * PAGE;
	mark(&f.m, 3);
	set(&f, UF);
	scribble(&f, 3);
	work.gpa = f.m.gpa + 3 * PAGE;
	vcpu_give(f.vcpu, &work);
	/* As often as it is run. */
	right = exits_for(&f, 3) && exits_for(&f, 3) && exits_for(&f, 3);
	right = right && *(uint64_t *)page == 0xbad && is_marked(&f.m, 3);
	if (op == GUEST_CALL)
		arch_put_return_code(page);
	else if (op == GUEST_CHECK)
		*(uint64_t *)page = STAMP + 3;
	unmark(&f.m, 3);
	right = right && finishes(&f);
	vcpu_outcome(f.vcpu, &outcome);
	right = right && outcome.passes == 1 && outcome.mismatches == 0;
	if (op == GUEST_WRITE)
		right = right && *(uint64_t *)page == STAMP + 3;
	return teardown(&f, right);
}

static enum verdict test_read(void)
{
	return test_access(GUEST_CHECK);
}

static enum verdict test_write(void)
{
	return test_access(GUEST_WRITE);
}

static enum verdict test_fetch(void)
{
	return test_access(GUEST_CALL);
}

static enum verdict test_page_of_exit(void)
{
	static const uint64_t pages[] = { 0, 1, 31, 32, 63, 64, 65, 127, 128, 129 };
	struct work work = { .op = GUEST_WRITE, .count = 1 };
	struct fixture f;
	bool right = true;
	size_t i;

	/* As many pages as fill no word, and all bits beyond them set. */
	setup(&f, 130, false);
	mark_all(&f.m);
	f.m.bitmap[130 / 64] = ~0ull;
	f.m.bitmap[130 / 64 + 1] = ~0ull;
	set(&f, UF);
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		work.gpa = f.m.gpa + pages[i] * PAGE + PAGE - 8 * (i + 1);
		vcpu_give(f.vcpu, &work);
		right = exits_for(&f, pages[i]) && right;
		unmark(&f.m, pages[i]);
		right = finishes(&f) && right;
	}
	return teardown(&f, right);
}

static enum verdict test_only_marked(void)
{
	uint64_t marked;
	struct fixture f;

	setup(&f, 400, false);
	marked = mark_every_third(&f);
	set(&f, UF);
	return teardown(&f, walk(&f, GUEST_CHECK, marked) && walk(&f, GUEST_CHECK, 0));
}

/* With a block mapped for a page that is not marked, its marked neighbours would not exit. */
static enum verdict test_only_marked_huge(void)
{
	uint64_t marked;
	struct fixture f;
	bool right;

	setup(&f, 2 * HUGE / PAGE, true);
	if (memory_huge_bytes(f.m.memory, 2 * HUGE) < HUGE) {
		skip_reason = "no transparent huge pages here";
		teardown(&f, true);
		return SKIPPED;
	}
	marked = mark_every_third(&f);
	set(&f, UF);
	right = walk(&f, GUEST_CHECK, marked);
	if (vm_statistic(&f.vm, "pages_2m") > 0) {
		tap_note("%ld huge pages are mapped", (long)vm_statistic(&f.vm, "pages_2m"));
		right = false;
	}
	return teardown(&f, right && walk(&f, GUEST_WRITE, 0));
}

static enum verdict test_untouched_bitmap(void)
{
	struct fixture f;
	bool right;

	setup(&f, 200, false);
	need(madvise(f.m.bitmap, bitmap_bytes(200), MADV_DONTNEED) == 0, "madvise");
	set(&f, UF);
	right = walk(&f, GUEST_CHECK, 0);
	return teardown(&f, right);
}

static enum verdict test_unreadable_bitmap(void)
{
	struct work work = { .op = GUEST_CHECK, .gpa = TEST_GPA, .count = 1, .value = STAMP };
	struct fixture f;
	enum stop stop;
	bool right;

	setup(&f, 8, false);
	set(&f, UF);
	need(mprotect(f.m.bitmap, bitmap_bytes(8), PROT_NONE) == 0, "mprotect");
	stop = vcpu_do(f.vcpu, &work);
	right = stop == STOP_FAULT && f.vcpu->run->exit_reason != KVM_EXIT_MEMORY_FAULT;
	if (!right)
		tap_note("%s", vcpu_describe(f.vcpu, stop));
	need(mprotect(f.m.bitmap, bitmap_bytes(8), PROT_READ | PROT_WRITE) == 0, "mprotect");
	return teardown(&f, right && finishes(&f) && walk(&f, GUEST_CHECK, 0));
}

/* The guest's page table is memory like any other to the hardware that walks it. */
static enum verdict test_page_table(void)
{
	struct work work = { .op = GUEST_CHECK, .gpa = TEST_GPA, .count = 1, .value = STAMP };
	struct fixture f;
	char npt[8];
	bool right;

	if (read_text("/sys/module/kvm_amd/parameters/npt", npt, sizeof(npt))[0] == 'N') {
		skip_reason = "with shadow paging KVM itself walks the guest's page tables, and not by the bitmap";
		return SKIPPED;
	}
	setup(&f, 8, false);
	mark(&f.m, 6);
	set(&f, UF);
	vcpu_give(f.vcpu, &work);
	arch_move_page_table(f.vcpu, f.m.gpa + 6 * PAGE, (char *)f.m.memory + 6 * PAGE);
	right = exits_for(&f, 6);
	unmark(&f.m, 6);
	return teardown(&f, right && finishes(&f));
}

static enum verdict test_neighbour_slot(void)
{
	void *other = memory_new(8 * PAGE, false);
	struct fixture f;
	bool right;

	setup(&f, 8, false);
	mark_all(&f.m);
	set(&f, UF);
	need(vm_set_slot(&f.vm, 2, 0, TEST_GPA + 8 * PAGE, 8 * PAGE, other) == 0, "a slot above");
	right = vcpu_count_wrong(f.vcpu, TEST_GPA + 8 * PAGE, 8, 0, 0) == 0 && walk(&f, GUEST_CHECK, 8) &&
		vcpu_count_wrong(f.vcpu, TEST_GPA, 8, STAMP, 1) == 0;
	memory_free(other, 8 * PAGE);
	return teardown(&f, right);
}

/* Turning it on and off */

static enum verdict test_turn_on(void)
{
	struct fixture f;
	bool right;

	setup_mapped(&f);
	mark_all(&f.m);
	set(&f, UF);
	right = walk(&f, GUEST_WRITE, f.m.npages) && walk(&f, GUEST_CHECK, 0);
	return teardown(&f, right);
}

static enum verdict test_turn_on_some(void)
{
	uint64_t marked;
	struct fixture f;
	bool right;

	setup_mapped(&f);
	marked = mark_every_third(&f);
	set(&f, UF);
	right = walk(&f, GUEST_CHECK, marked);
	return teardown(&f, right);
}

static enum verdict test_turn_off(void)
{
	struct fixture f;
	bool right;

	setup(&f, 2 * HUGE / PAGE, true);
	mark_all(&f.m);
	set(&f, UF);
	set(&f, 0);
	right = walk(&f, GUEST_CHECK, 0) && is_marked(&f.m, 7);
	return teardown(&f, right);
}

/* The bitmap may go as soon as the flag is off. */
static enum verdict test_turn_off_and_free(void)
{
	struct fixture f;
	bool right;

	setup(&f, 64, false);
	mark_all(&f.m);
	set(&f, UF);
	set(&f, 0);
	need(mprotect(f.m.bitmap, bitmap_bytes(64), PROT_NONE) == 0, "mprotect");
	right = walk(&f, GUEST_WRITE, 0) && walk(&f, GUEST_CHECK, 0);
	return teardown(&f, right);
}

static enum verdict test_off_and_on(void)
{
	uint64_t marked;
	struct fixture f;
	bool right;

	setup(&f, 2 * HUGE / PAGE, true);
	set(&f, UF);
	right = walk(&f, GUEST_WRITE, 0);
	marked = mark_every_third(&f);
	set(&f, 0);
	set(&f, UF);
	right = walk(&f, GUEST_CHECK, marked) && right;
	return teardown(&f, right);
}

/* Turned on for a slot on which it is on: nothing happens. */
static enum verdict test_on_twice(void)
{
	struct fixture f;
	bool right;

	setup(&f, 64, false);
	mark(&f.m, 9);
	set(&f, UF);
	set(&f, UF);
	right = walk(&f, GUEST_CHECK, 1);
	return teardown(&f, right);
}

static enum verdict test_huge_again(void)
{
	int64_t during, after;
	struct fixture f;
	bool right;

	setup_mapped(&f);
	if (vm_statistic(&f.vm, "pages_2m") <= 0) {
		skip_reason = "KVM does not count huge pages here, or maps none";
		teardown(&f, true);
		return SKIPPED;
	}
	set(&f, UF);
	right = walk(&f, GUEST_CHECK, 0);
	during = vm_statistic(&f.vm, "pages_2m");
	set(&f, 0);
	right = walk(&f, GUEST_CHECK, 0) && right;
	after = vm_statistic(&f.vm, "pages_2m");
	if (during != 0 || after <= 0)
		tap_note("%ld huge pages with the flag, %ld after", (long)during, (long)after);
	return teardown(&f, right && during == 0 && after > 0);
}

/* With dirty logging */

/* Reads and clears the log. -> does it have exactly the pages that @written says? */
static bool log_is(struct fixture *f, bool (*written)(uint64_t))
{
	uint64_t *log = calloc(bitmap_bytes(f->m.npages), 1), i, wrong = 0;
	int error;

	need(log, "memory");
	error = vm_get_dirty_log(&f->vm, f->m.slot, log);
	need(error == 0, "KVM_GET_DIRTY_LOG: %d", error);
	for (i = 0; i < f->m.npages; i++)
		if ((log[i / 64] >> i % 64 & 1) != written(i))
			wrong++;
	free(log);
	if (wrong)
		tap_note("%lu pages are logged wrong", (unsigned long)wrong);
	return wrong == 0;
}

static bool all_pages(uint64_t page)
{
	return true;
}

static bool no_pages(uint64_t page)
{
	return false;
}

static bool tenth_pages(uint64_t page)
{
	return page % 10 == 0;
}

/* What was mapped by reads may be logged as well: x86 maps it writable if it can. From here on the log is exact. */
static void forget_log(struct fixture *f)
{
	uint64_t *log = calloc(bitmap_bytes(f->m.npages), 1);
	int error;

	need(log, "memory");
	error = vm_get_dirty_log(&f->vm, f->m.slot, log);
	need(error == 0, "KVM_GET_DIRTY_LOG: %d", error);
	free(log);
}

static bool write_tenth(struct fixture *f)
{
	struct work work = {
		.op = GUEST_WRITE, .gpa = f->m.gpa, .count = (f->m.npages + 9) / 10, .stride = 10 * PAGE,
		.value = STAMP, .step = 10
	};
	enum stop stop = vcpu_do(f->vcpu, &work);

	if (stop != STOP_DONE)
		tap_note("%s", vcpu_describe(f->vcpu, stop));
	return stop == STOP_DONE;
}

/*
 * The slot has both flags, some pages marked: those exit, and what is written when all is mapped is logged.
 */
static bool both_work(struct fixture *f, uint64_t marked)
{
	bool right = walk(f, GUEST_CHECK, marked);

	forget_log(f);
	right = right && walk(f, GUEST_CHECK, 0) && log_is(f, no_pages);
	right = right && write_tenth(f) && log_is(f, tenth_pages);
	right = right && walk(f, GUEST_WRITE, 0) && log_is(f, all_pages);
	return right && log_is(f, no_pages) && write_tenth(f) && log_is(f, tenth_pages);
}

static enum verdict test_both_created(void)
{
	uint64_t marked;
	struct fixture f;

	setup(&f, 2 * HUGE / PAGE, true);
	marked = mark_every_third(&f);
	set(&f, UF | LOG);
	return teardown(&f, both_work(&f, marked));
}

static enum verdict test_both_at_once(void)
{
	uint64_t marked;
	struct fixture f;

	setup_mapped(&f);
	marked = mark_every_third(&f);
	set(&f, UF | LOG);
	return teardown(&f, both_work(&f, marked));
}

static enum verdict test_log_then_flag(void)
{
	uint64_t marked;
	struct fixture f;
	bool right;

	setup_mapped(&f);
	set(&f, LOG);
	right = write_tenth(&f);
	marked = mark_every_third(&f);
	set(&f, UF | LOG);
	/* What was logged before the flag went on stays logged. */
	right = right && log_is(&f, tenth_pages) && both_work(&f, marked);
	return teardown(&f, right);
}

static enum verdict test_flag_then_log(void)
{
	uint64_t marked;
	struct fixture f;
	bool right;

	setup_mapped(&f);
	set(&f, UF);
	right = walk(&f, GUEST_WRITE, 0);
	set(&f, 0);
	marked = mark_every_third(&f);
	set(&f, UF);
	set(&f, UF | LOG);
	return teardown(&f, both_work(&f, marked) && right);
}

/* The pages are mapped, and writable, when logging goes on. */
static enum verdict test_log_protects(void)
{
	struct fixture f;
	bool right;

	setup(&f, 2 * HUGE / PAGE, true);
	set(&f, UF);
	right = walk(&f, GUEST_WRITE, 0);
	set(&f, UF | LOG);
	right = write_tenth(&f) && log_is(&f, tenth_pages) && right;
	return teardown(&f, right);
}

static enum verdict test_flag_off_log_stays(void)
{
	struct fixture f;
	bool right;

	setup(&f, 2 * HUGE / PAGE, true);
	mark_all(&f.m);
	set(&f, UF | LOG);
	right = walk(&f, GUEST_CHECK, f.m.npages);
	forget_log(&f);
	mark_all(&f.m);
	set(&f, LOG);
	right = right && write_tenth(&f) && log_is(&f, tenth_pages) && walk(&f, GUEST_CHECK, 0) &&
		log_is(&f, no_pages);
	if (vm_statistic(&f.vm, "pages_2m") > 0) {
		tap_note("huge pages are mapped while logging is on");
		right = false;
	}
	return teardown(&f, right);
}

static enum verdict test_log_off_flag_stays(void)
{
	uint64_t marked;
	struct fixture f;
	bool right;

	setup_mapped(&f);
	set(&f, UF | LOG);
	right = write_tenth(&f);
	set(&f, UF);
	right = right && vm_get_dirty_log(&f.vm, 1, f.m.bitmap) == -ENOENT && walk(&f, GUEST_WRITE, 0);
	set(&f, 0);
	marked = mark_every_third(&f);
	set(&f, UF);
	return teardown(&f, right && walk(&f, GUEST_CHECK, marked));
}

/*
 * There is nothing to collapse while the flag is on: that would drop mappings only for them to come back small. (Each
 * would have its bit tested again, so that is legal, but it is a fault for every page.)
 */
static enum verdict test_log_off_keeps_mappings(void)
{
	int64_t before, after;
	struct fixture f;
	bool right;

	setup_mapped(&f);
	set(&f, UF | LOG);
	right = walk(&f, GUEST_WRITE, 0);
	before = vm_statistic(&f.vm, "pages_4k");
	if (before < 0 || memory_huge_bytes(f.m.memory, 2 * HUGE) < HUGE) {
		skip_reason = "KVM does not count mapped pages here, or there are no huge pages";
		teardown(&f, true);
		return SKIPPED;
	}
	set(&f, UF);
	after = vm_statistic(&f.vm, "pages_4k");
	if (after != before)
		tap_note("%ld pages were mapped, %ld are", (long)before, (long)after);
	return teardown(&f, right && after == before && before >= (int64_t)f.m.npages);
}

/* All four states of the two flags, from each to each other, with both kinds of pages behind them. */
static enum verdict test_all_changes(void)
{
	static const uint32_t states[] = { 0, UF, LOG, UF | LOG };
	uint64_t marked;
	struct fixture f;
	bool right = true;
	size_t from, to;

	setup_mapped(&f);
	for (from = 0; from < 4; from++)
		for (to = 0; to < 4; to++) {
			unmark_all(&f.m);
			set(&f, states[from]);
			right = walk(&f, GUEST_WRITE, 0) && right;
			if (states[from] & LOG)
				right = log_is(&f, all_pages) && right;
			/* Marks count when the flag goes on; there is no saying whether they do when it was on. */
			marked = states[from] & UF ? 0 : mark_every_third(&f);
			set(&f, states[to]);
			right = walk(&f, GUEST_WRITE, states[to] & UF ? marked : 0) && right;
			right = walk(&f, GUEST_CHECK, 0) && right;
			if (states[to] & LOG)
				right = log_is(&f, all_pages) && right;
			if (!right) {
				tap_note("from flags %#x to %#x", states[from], states[to]);
				return teardown(&f, false);
			}
		}
	return teardown(&f, right);
}

static enum verdict test_ring(void)
{
	enum { NPAGES = 300, ENTRIES = 4096 };
	uint64_t marked, offset, seen = 0;
	struct fixture f;
	struct ring ring;
	uint32_t slot;
	bool right;

	vm_create(&f.vm, 0);
	if (!ring_capability(&f.vm)) {
		skip_reason = "no dirty rings here";
		vm_destroy(&f.vm);
		return SKIPPED;
	}
	need(vm_enable(&f.vm, ring_capability(&f.vm), 0, ENTRIES * 16) == 0, "a ring");
	vm_add_low_memory(&f.vm);
	f.vcpu = vm_add_vcpu(&f.vm);
	ring_map(&ring, f.vcpu, ENTRIES);
	marked_init(&f.m, &f.vm, NPAGES, false);
	marked = mark_every_third(&f);
	set(&f, UF | LOG);
	right = walk(&f, GUEST_CHECK, marked);
	/* As with the bitmap: what reads have mapped may be in the ring, too. */
	while (ring_take(&ring, &slot, &offset))
		;
	ring_reset(&f.vm);
	right = walk(&f, GUEST_WRITE, 0) && right;
	while (ring_take(&ring, &slot, &offset))
		seen += slot == 1 && offset < NPAGES;
	right = right && seen == NPAGES && ring_reset(&f.vm) == NPAGES;
	/* Turned off and on with pages marked: what is written again is in the ring again. */
	set(&f, LOG);
	marked = mark_every_third(&f);
	set(&f, UF | LOG);
	right = walk(&f, GUEST_WRITE, marked) && right;
	for (seen = 0; ring_take(&ring, &slot, &offset);)
		seen += slot == 1 && offset < NPAGES;
	if (seen != NPAGES)
		tap_note("%lu pages in the ring, not %d", (unsigned long)seen, NPAGES);
	ring_unmap(&ring);
	return teardown(&f, right && seen == NPAGES);
}

/* Read-only slots */

static enum verdict test_readonly(void)
{
	struct work work = { .op = GUEST_WRITE, .gpa = TEST_GPA, .count = 1, .value = 1 };
	uint64_t marked;
	struct fixture f;
	enum stop stop;
	bool right;

	setup(&f, 64, false);
	marked = mark_every_third(&f);
	set(&f, UF | KVM_MEM_READONLY);
	right = walk(&f, GUEST_CHECK, marked);
	stop = vcpu_do(f.vcpu, &work);
	if (stop != STOP_MMIO)
		tap_note("a write: %s", vcpu_describe(f.vcpu, stop));
	return teardown(&f, right && stop == STOP_MMIO && page_word(f.m.memory, 0) == STAMP);
}

static enum verdict test_readonly_toggled(void)
{
	uint64_t marked;
	struct fixture f;
	bool right;

	setup(&f, 2 * HUGE / PAGE, true);
	set(&f, KVM_MEM_READONLY);
	right = walk(&f, GUEST_CHECK, 0);
	marked = mark_every_third(&f);
	set(&f, UF | KVM_MEM_READONLY);
	right = walk(&f, GUEST_CHECK, marked) && right;
	mark_all(&f.m);
	set(&f, KVM_MEM_READONLY);
	right = walk(&f, GUEST_CHECK, 0) && right;
	set(&f, KVM_MEM_READONLY | LOG);
	right = walk(&f, GUEST_CHECK, 0) && right;
	set(&f, UF | KVM_MEM_READONLY | LOG);
	right = walk(&f, GUEST_CHECK, f.m.npages) && right;
	set(&f, UF | KVM_MEM_READONLY);
	right = walk(&f, GUEST_CHECK, 0) && right;
	return teardown(&f, right && marked_set(&f.m, UF) == -EINVAL);
}

/* Slots that come, go and move */

static bool is_gone(struct fixture *f)
{
	struct work work = { .op = GUEST_CHECK, .gpa = f->m.gpa, .count = 1 };
	enum stop stop = vcpu_do(f->vcpu, &work);

	if (stop != STOP_MMIO)
		tap_note("an access where no slot is: %s", vcpu_describe(f->vcpu, stop));
	return stop == STOP_MMIO;
}

static enum verdict delete_and_create(uint32_t flags)
{
	uint64_t marked;
	struct fixture f;
	bool right;

	setup(&f, 2 * HUGE / PAGE, true);
	mark_all(&f.m);
	set(&f, flags);
	right = walk(&f, GUEST_WRITE, f.m.npages);
	mark_all(&f.m);
	need(marked_delete(&f.m) == 0, "deletion");
	right = is_gone(&f) && right;
	set(&f, flags & ~UF);
	right = walk(&f, GUEST_CHECK, 0) && right;
	need(marked_delete(&f.m) == 0, "deletion");
	right = is_gone(&f) && right;
	unmark_all(&f.m);
	marked = mark_every_third(&f);
	set(&f, flags);
	right = walk(&f, GUEST_CHECK, marked) && right;
	if (flags & LOG) {
		forget_log(&f);
		right = write_tenth(&f) && log_is(&f, tenth_pages) && right;
	}
	return teardown(&f, right);
}

static enum verdict test_delete(void)
{
	return delete_and_create(UF);
}

static enum verdict test_delete_logging(void)
{
	return delete_and_create(UF | LOG);
}

static enum verdict move(uint32_t flags)
{
	static const int64_t by[] = { 1, 511, -700, 512 };
	uint64_t marked;
	struct fixture f;
	bool right;
	size_t i;

	setup(&f, 2 * HUGE / PAGE, true);
	set(&f, flags);
	right = walk(&f, GUEST_WRITE, 0);
	for (i = 0; i < ARRAY_SIZE(by) && right; i++) {
		unmark_all(&f.m);
		/* Marked before the move, or after it: nothing is mapped at the new place. */
		if (i % 2)
			mark_every_third(&f);
		f.m.gpa += (uint64_t)(by[i] * (int64_t)PAGE);
		set(&f, flags);
		marked = mark_every_third(&f);
		right = walk(&f, GUEST_CHECK, marked);
		if (flags & LOG) {
			forget_log(&f);
			right = right && write_tenth(&f) && log_is(&f, tenth_pages);
		}
		right = walk(&f, GUEST_WRITE, 0) && right;
	}
	return teardown(&f, right);
}

static enum verdict test_move(void)
{
	return move(UF);
}

static enum verdict test_move_logging(void)
{
	return move(UF | LOG);
}

static enum verdict test_move_and_toggle(void)
{
	uint64_t marked;
	struct fixture f;
	bool right;

	setup_mapped(&f);
	marked = mark_every_third(&f);
	f.m.gpa += 3 * PAGE;
	set(&f, UF);
	right = walk(&f, GUEST_CHECK, marked);
	mark_all(&f.m);
	f.m.gpa -= 2 * PAGE;
	set(&f, 0);
	right = walk(&f, GUEST_CHECK, 0) && right;
	f.m.gpa += PAGE;
	set(&f, UF | LOG);
	right = walk(&f, GUEST_CHECK, f.m.npages) && right;
	forget_log(&f);
	return teardown(&f, write_tenth(&f) && log_is(&f, tenth_pages) && right);
}

/* Memory that the host drops, swaps or discards is faulted in anew, its bit tested anew. */
static enum verdict test_discarded(void)
{
	uint64_t marked, i;
	struct fixture f;
	bool right;

	setup(&f, 400, false);
	set(&f, UF);
	right = walk(&f, GUEST_CHECK, 0);
	need(madvise(f.m.memory, 400 * PAGE, MADV_DONTNEED) == 0, "madvise");
	for (i = 0; i < 400; i++)
		*(uint64_t *)((char *)f.m.memory + i * PAGE) = STAMP + i;
	marked = mark_every_third(&f);
	return teardown(&f, walk(&f, GUEST_CHECK, marked) && right);
}

static const struct {
	enum verdict (*run)(void);
	const char *name;
} tests[] = {
	/* clang-format off */
	{ test_capability,             "the capability is there" },
	{ test_old_ioctl,              "KVM_SET_USER_MEMORY_REGION refuses the flag" },
	{ test_old_ioctl_turns_off,    "KVM_SET_USER_MEMORY_REGION can turn it off" },
	{ test_unknown_flags,          "unknown flags stay refused" },
	{ test_bitmap_alignment,       "a bitmap that is not aligned is refused" },
	{ test_bitmap_access,          "a bitmap that is not in user memory is refused" },
	{ test_bitmap_ignored,         "without the flag the bitmap's address is ignored" },
	{ test_bitmap_change,          "another bitmap is refused while the flag is on" },
	{ test_bitmap_change_when_off, "another bitmap is taken after the flag was off" },

	{ test_read,                   "a read of a marked page exits" },
	{ test_write,                  "a write to a marked page exits" },
	{ test_fetch,                  "an instruction fetch from a marked page exits" },
	{ test_page_table,             "a page table in a marked page exits" },
	{ test_page_of_exit,           "the exit tells the page, and its size" },
	{ test_only_marked,            "only marked pages exit" },
	{ test_only_marked_huge,       "only marked pages exit on huge pages, of which none is mapped" },
	{ test_untouched_bitmap,       "a bitmap that was never touched is clear" },
	{ test_unreadable_bitmap,      "a bitmap that cannot be read is EFAULT without a userfault exit" },
	{ test_neighbour_slot,         "a neighbouring slot is not concerned" },
	{ test_discarded,              "a page that the host has discarded has its bit tested again" },

	{ test_turn_on,                "turned on, pages that were mapped exit" },
	{ test_turn_on_some,           "turned on, pages that were mapped and are not marked do not exit" },
	{ test_turn_off,               "turned off, marked pages do not exit" },
	{ test_turn_off_and_free,      "turned off, the bitmap is not read" },
	{ test_off_and_on,             "turned off and on, pages that were marked late exit" },
	{ test_on_twice,               "turned on twice" },
	{ test_huge_again,             "turned off, huge pages are mapped again" },

	{ test_both_created,           "created with dirty logging" },
	{ test_both_at_once,           "turned on together with dirty logging" },
	{ test_log_then_flag,          "turned on while dirty logging is on" },
	{ test_flag_then_log,          "dirty logging turned on while the flag is on" },
	{ test_log_protects,           "dirty logging turned on write-protects what is mapped" },
	{ test_flag_off_log_stays,     "turned off while dirty logging stays on" },
	{ test_log_off_flag_stays,     "dirty logging turned off while the flag stays on" },
	{ test_log_off_keeps_mappings, "dirty logging turned off drops no mappings while the flag is on" },
	{ test_all_changes,            "every change of the two flags" },
	{ test_ring,                   "with a dirty ring" },

	{ test_readonly,               "a read-only slot" },
	{ test_readonly_toggled,       "every change of the flags of a read-only slot" },
	{ test_delete,                 "deleted and created" },
	{ test_delete_logging,         "deleted and created with dirty logging" },
	{ test_move,                   "moved" },
	{ test_move_logging,           "moved with dirty logging" },
	{ test_move_and_toggle,        "moved and toggled in one call" },
	/* clang-format on */
};

int main(void)
{
	enum verdict verdict;
	size_t i;

	tap_start("userfault", 180);
	need_userfault();
	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		tap_doing(tests[i].name);
		verdict = tests[i].run();
		if (verdict == SKIPPED)
			tap_skip(tests[i].name, "%s", skip_reason);
		else
			tap_case(verdict == RIGHT, tests[i].name);
	}
	tap_kernel_log();
	return tap_end();
}
