/* Executions and processes: which program each process runs. */
#pragma once

#include "maps.h"
#include "paths.h"

#define FD_DIGITS 7

static const struct execution no_execution;

static __always_inline u64 new_owner(void)
{
	u32 zero = 0;
	u64 *last = bpf_map_lookup_elem(&counter, &zero);

	return last ? __sync_fetch_and_add(last, 1) + 1 : 0;
}

static __always_inline void forget_process_of(u64 owner)
{
	struct execution *execution = bpf_map_lookup_elem(&executions, &owner);

	if (execution && __sync_fetch_and_add(&execution->processes, -1) == 1)
		bpf_map_delete_elem(&executions, &owner);
}

/* Return the entry of a task's process, if it is of this process and not of an earlier one with its id. */
static __always_inline struct process *process_of(struct task_struct *task, u32 *id, u64 *start)
{
	struct process *process;

	*id = BPF_CORE_READ(task, tgid);
	*start = BPF_CORE_READ(task, group_leader, start_boottime);
	process = bpf_map_lookup_elem(&processes, id);
	return process && process->start == *start ? process : NULL;
}

static __always_inline struct execution *new_execution(u64 owner)
{
	struct execution *execution;

	if (bpf_map_update_elem(&executions, &owner, &no_execution, BPF_NOEXIST))
		return NULL;
	execution = bpf_map_lookup_elem(&executions, &owner);
	if (execution) {
		execution->owner = owner;
		execution->processes = 1;
	}
	return execution;
}

static __always_inline void note_path(struct execution *execution, struct task_struct *task)
{
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct fs_struct *fs = BPF_CORE_READ(task, fs);

	if (file && fs && walk_path(execution->path, &file->f_path, &fs->root))
		execution->flags |= PATH_CUT;
}

/* Where a relative script name begins: the working directory, or what descriptor N of "/dev/fd/N" is. */
static __always_inline const struct path *base_of(struct execution *execution, struct task_struct *task)
{
	static const char prefix[] = "/dev/fd/";
	unsigned int number = 0, most;
	struct fdtable *table;
	struct file **files, *file = NULL;
	char *text = execution->text;
	int at = sizeof(prefix) - 1;

	if (text[0] != '/')
		return &BPF_CORE_READ(task, fs)->pwd;
	for (int i = 0; i < (int)sizeof(prefix) - 1; i++)
		if (text[i] != prefix[i])
			return NULL;
	for (int i = 0; i < FD_DIGITS && text[at] >= '0' && text[at] <= '9'; i++, at++)
		number = number * 10 + text[at] - '0';
	table = BPF_CORE_READ(task, files, fdt);
	most = BPF_CORE_READ(table, max_fds);
	files = BPF_CORE_READ(table, fd);
	if (number >= most || bpf_probe_read_kernel(&file, sizeof(file), files + number) || !file)
		return NULL;
	return &file->f_path;
}

static __always_inline void note_base(struct execution *execution, struct task_struct *task)
{
	const struct path *base = base_of(execution, task);

	if (base && walk_path(execution->base, base, &BPF_CORE_READ(task, fs)->root))
		execution->flags |= BASE_CUT;
}

/* Note the first argument of the current process. Its memory is read as it is now, and not waited for. */
static __noinline int note_argument(struct execution *execution, struct task_struct *task)
{
	unsigned long at = BPF_CORE_READ(task, mm, arg_start), end = BPF_CORE_READ(task, mm, arg_end);
	long size = bpf_probe_read_user_str(execution->text, TEXT_BYTES, (void *)at);

	if (size > 0 && size < TEXT_BYTES && at + size < end) {
		size = bpf_probe_read_user_str(execution->text, TEXT_BYTES, (void *)(at + size));
		if (size > 1) {
			execution->flags |= ARGUMENT | (size == TEXT_BYTES ? TEXT_CUT : 0);
			note_base(execution, task);
			return 0;
		}
	}
	execution->text[0] = 0;
	return 0;
}

/* Give the current process its number, if it was executed before these programs were there. */
static __noinline int meet(struct task_struct *task)
{
	struct process process = {}, *other;
	struct execution *execution;
	u32 id;

	other = process_of(task, &id, &process.start);
	if (other)
		return 0;
	process.owner = new_owner();
	execution = new_execution(process.owner);
	if (!execution)
		return 0;
	execution->flags = UNSEEN;
	note_path(execution, task);
	note_argument(execution, task);
	other = bpf_map_lookup_elem(&processes, &id);
	/* Another thread may have been faster; an entry of an earlier process is in the way. */
	if (bpf_map_update_elem(&processes, &id, &process, other && other->start != process.start ? BPF_ANY : BPF_NOEXIST))
		bpf_map_delete_elem(&executions, &process.owner);
	return 0;
}

static __always_inline int ends_in_env(const char *program)
{
	char tail[NAME_BYTES];
	long size = bpf_probe_read_kernel_str(tail, sizeof(tail), program);

	if (size < 5 || size > (long)sizeof(tail))
		return 0;
	size -= 5; /* "/env" and the zero byte */
	return size < NAME_BYTES - 5 && tail[size] == '/' && tail[size + 1] == 'e' && tail[size + 2] == 'n' &&
	       tail[size + 3] == 'v';
}

static __always_inline void note_text(struct execution *execution, struct task_struct *task,
				      struct linux_binprm *program, struct execution *before)
{
	const char *filename = BPF_CORE_READ(program, filename), *interpreter = BPF_CORE_READ(program, interp);

	if (filename != interpreter) {
		execution->flags |= SCRIPT | (ends_in_env(interpreter) ? VIA_ENV : 0);
		if (bpf_probe_read_kernel_str(execution->text, TEXT_BYTES, filename) == TEXT_BYTES)
			execution->flags |= TEXT_CUT;
		note_base(execution, task);
	} else if (before && before->flags & VIA_ENV) {
		execution->flags |= SCRIPT | (before->flags & (TEXT_CUT | BASE_CUT));
		bpf_probe_read_kernel(execution->text, TEXT_BYTES + PATH_BYTES, before->text);
	} else {
		note_argument(execution, task); /* the stack was written a moment ago: it is there to be read */
	}
}
