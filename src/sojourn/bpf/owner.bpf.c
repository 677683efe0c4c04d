/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Who made a flow: exact, from its first packet, with no look at /proc (DESIGN §4, Applications).
 *
 *   exec    a number for each execution, with the program's path and the script's, as the kernel has them
 *   fork    children inherit the number; exit: the last process of an execution ends it
 *   socket, connect, sendmsg    who does it is kept with the socket; a connection that is accepted begins with its
 *           listener's, and is of whoever sends on it then
 *   a packet that leaves by the TUN device    flow -> user, written before the packet can be read there
 *
 * Only sockets of the daemon's own network namespace are looked at, only packets that leave by its device are
 * parsed, and a socket's flow is written again only when user or flow has changed, or after 30 s.
 *
 * A process that is older than these programs gets its number when it is first seen; its path is that of the file
 * that it runs, from the kernel as well, only its script is not known.
 */
#include "execution.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define AF_INET6 10
#define SOL_SOCKET 1
#define SO_MARK 36
#define ICMP 1
#define TCP 6
#define UDP 17
#define ICMPV6 58
#define TCP_LISTEN 10
#define FRESH_NS 30000000000ULL

static const struct cgroup_path no_cgroup;

/* -- processes */

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_id, struct linux_binprm *program)
{
	struct process process = {}, *before;
	struct execution *execution, *last = NULL;
	u64 owner = 0;
	u32 id;

	before = process_of(task, &id, &process.start);
	if (before) {
		owner = before->owner;
		process.pin = before->pin;
		last = bpf_map_lookup_elem(&executions, &owner);
	}
	process.owner = new_owner();
	execution = new_execution(process.owner);
	if (execution) {
		note_path(execution, task);
		note_text(execution, task, program, last);
	}
	bpf_map_update_elem(&processes, &id, &process, BPF_ANY);
	if (owner)
		forget_process_of(owner);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct process process, *of_parent;
	struct execution *execution;
	u32 parent_id, id = BPF_CORE_READ(child, tgid);
	u64 start;

	if (id == BPF_CORE_READ(parent, tgid)) /* a thread */
		return 0;
	if (BPF_CORE_READ(parent, mm))
		meet(parent);
	of_parent = process_of(parent, &parent_id, &start);
	if (!of_parent) {
		bpf_map_delete_elem(&processes, &id);
		return 0;
	}
	process.owner = of_parent->owner;
	process.pin = of_parent->pin;
	process.start = BPF_CORE_READ(child, start_boottime);
	execution = bpf_map_lookup_elem(&executions, &process.owner);
	if (execution)
		__sync_fetch_and_add(&execution->processes, 1);
	bpf_map_update_elem(&processes, &id, &process, BPF_ANY);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct process *process;
	u64 start, owner;
	u32 id;

	if (BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0;
	process = process_of(task, &id, &start);
	if (process) {
		owner = process->owner;
		if (!bpf_map_delete_elem(&processes, &id)) /* of two threads that end at once both may see none left */
			forget_process_of(owner);
	}
	return 0;
}

/* -- who uses a socket */

static __always_inline u64 note_cgroup(struct task_struct *task, struct settings *ours)
{
	struct kernfs_node *node = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
	struct cgroup_path *path;
	u64 id = BPF_CORE_READ(node, id);

	path = bpf_map_lookup_elem(&cgroups, &id);
	if (!path) {
		bpf_map_update_elem(&cgroups, &id, &no_cgroup, BPF_NOEXIST);
		path = bpf_map_lookup_elem(&cgroups, &id);
	}
	if (path && !path->complete) {
		walk_cgroup(path, node, ours->root);
		path->complete = 1;
	}
	return id;
}

/* See to it that an owner can be read for as long as its flows matter; say whether it was not there before. */
static __always_inline int publish(u64 owner)
{
	struct execution *execution;

	if (bpf_map_lookup_elem(&owners, &owner))
		return 0;
	execution = bpf_map_lookup_elem(&executions, &owner);
	if (execution)
		bpf_map_update_elem(&owners, &owner, execution, BPF_ANY);
	return 1;
}

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

/* Services have mount namespaces of their own with the same root: their paths mean what ours do. */
static __always_inline int is_foreign(struct task_struct *task, struct settings *ours)
{
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry);

	return BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum) != ours->mounts &&
	       (BPF_CORE_READ(root, d_inode, i_ino) != ours->inode || BPF_CORE_READ(root, d_sb, s_dev) != ours->system);
}

static __always_inline void note_user(struct user *user, struct settings *ours)
{
	struct task_struct *task = current_task();
	struct process *process;
	u64 start;
	u32 id;

	meet(task);
	process = process_of(task, &id, &start);
	user->owner = process ? process->owner : 0;
	user->pin = process ? process->pin : 0;
	user->pid = id;
	user->uid = BPF_CORE_READ(task, cred, uid.val);
	user->flags = is_foreign(task, ours) ? FOREIGN : 0;
	user->reserved = 0;
	/* The application's name is its first thread's: others call themselves "DNS Resolver #3". */
	BPF_CORE_READ_INTO(&user->command, task, group_leader, comm);
	user->cgroup = note_cgroup(task, ours);
}

static __always_inline int same_user(const struct user *one, const struct user *other)
{
	const u64 *a = (const void *)one, *b = (const void *)other;

	for (int i = 0; i < (int)sizeof(struct user) / 8; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

/* Keep with a socket who uses it now. */
static __noinline int use(struct held *held, struct settings *ours)
{
	struct user user;

	note_user(&user, ours);
	held->execution = BPF_CORE_READ(current_task(), self_exec_id);
	held->memory = (u64)BPF_CORE_READ(current_task(), mm);
	if (same_user(&held->user, &user))
		return 0;
	held->user = user;
	held->written = 0;
	held->certain = 0;
	publish(user.owner);
	if (ours->direct)
		bpf_ringbuf_output(&seen, &user, sizeof(user), 0);
	return 0;
}

/* -- direct */

static __always_inline u32 told(struct verdict *key)
{
	u32 *verdict = bpf_map_lookup_elem(&verdicts, key);

	return verdict ? *verdict : UNDECIDED;
}

static __always_inline u32 by_number(u32 kind, u64 number)
{
	struct verdict key = { .kind = kind };

	__builtin_memcpy(key.value, &number, sizeof(number));
	return told(&key);
}

static __always_inline u32 by_path(u64 owner)
{
	struct execution *execution = bpf_map_lookup_elem(&executions, &owner);
	u32 *verdict;

	if (!execution)
		execution = bpf_map_lookup_elem(&owners, &owner);
	if (!execution)
		return UNDECIDED;
	/* A script's name, if it is a whole path, stands alone in text and base: what follows is zeros. */
	verdict = bpf_map_lookup_elem(&paths, execution->flags & SCRIPT ? execution->text : execution->path);
	return verdict ? *verdict : UNDECIDED;
}

static __always_inline u32 first_of(u32 one, u32 other)
{
	return one < other ? one : other;
}

/* Say whether who uses this socket goes past the tunnels: decided before a source address is chosen. */
static __noinline int is_direct(struct held *held)
{
	struct verdict by_command = { .kind = BY_COMMAND };
	struct user *user = &held->user;
	u32 verdict = by_number(BY_OWNER, user->owner);

	if (verdict == UNDECIDED)
		bpf_ringbuf_output(&seen, user, sizeof(*user), 0);
	if (verdict == UNDECIDED && user->pin)
		verdict = by_number(BY_PIN, user->pin);
	if (verdict == UNDECIDED) {
		__builtin_memcpy(by_command.value, user->command, COMMAND_BYTES);
		verdict = first_of(by_number(BY_CGROUP, user->cgroup), by_number(BY_USER, user->uid));
		verdict = first_of(verdict, by_number(BY_ANYONE, 0));
		verdict = first_of(verdict, first_of(user->pin ? UNDECIDED : told(&by_command), by_path(user->owner)));
	}
	return verdict != UNDECIDED && verdict & 1;
}

/* -- sockets */

SEC("cgroup/sock_create")
int on_socket(struct bpf_sock *sk)
{
	struct settings *ours = our_settings();
	struct held *held;

	if (!ours || bpf_get_netns_cookie(sk) != ours->netns)
		return 1;
	held = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!held)
		return 1;
	use(held, ours);
	/* Here already: a datagram's way is chosen before sendmsg's program is asked. */
	if (ours->direct && is_direct(held)) {
		sk->mark = (sk->mark & ~ours->mask) | ours->mark;
		held->marked = 1;
	}
	return 1;
}

static __always_inline int on_address(struct bpf_sock_addr *address)
{
	struct settings *ours = our_settings();
	struct held *held;
	u32 mark, wanted, direct;

	if (!ours || !address->sk || bpf_get_netns_cookie(address) != ours->netns)
		return 1;
	held = bpf_sk_storage_get(&sockets, address->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!held)
		return 1;
	held->certain = 0; /* it may become another flow */
	use(held, ours);
	direct = ours->direct && is_direct(held);
	if ((!direct && !held->marked) || bpf_getsockopt(address, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		return 1;
	wanted = (mark & ~ours->mask) | (direct ? ours->mark : 0);
	if (mark == wanted || !bpf_setsockopt(address, SOL_SOCKET, SO_MARK, &wanted, sizeof(wanted)))
		held->marked = direct;
	return 1;
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *address)
{
	return on_address(address);
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *address)
{
	return on_address(address);
}

SEC("cgroup/sendmsg4")
int on_sendmsg4(struct bpf_sock_addr *address)
{
	return on_address(address);
}

SEC("cgroup/sendmsg6")
int on_sendmsg6(struct bpf_sock_addr *address)
{
	return on_address(address);
}

/* -- packets */

static __always_inline int has_ports(u8 protocol)
{
	return protocol == TCP || protocol == UDP || protocol == 33 || protocol == 132 || protocol == 136;
}

/* Write the flow's key as packet/ip.py's flow_key does; return the bytes before its ports, 0 = it has none. */
static __always_inline u32 read_key(struct __sk_buff *skb, u8 *key)
{
	u8 first, protocol, kind;
	u32 at, header;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return 0;
	if (first >> 4 == 4) {
		at = 9;
		header = (first & 15) * 4;
		if (bpf_skb_load_bytes(skb, 9, &protocol, 1) || bpf_skb_load_bytes(skb, 12, key + 1, 8))
			return 0;
	} else if (first >> 4 == 6) {
		at = 33;
		header = 40;
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1) || bpf_skb_load_bytes(skb, 8, key + 1, 32))
			return 0;
	} else {
		return 0;
	}
	key[0] = protocol;
	if (has_ports(protocol)) {
		bpf_skb_load_bytes(skb, header, key + at, 4);
	} else if (protocol == ICMP || protocol == ICMPV6) {
		if (!bpf_skb_load_bytes(skb, header, &kind, 1) && (protocol == ICMP ? kind == 8 : kind == 128))
			bpf_skb_load_bytes(skb, header + 4, key + at, 2);
	}
	return at;
}

static __always_inline int same_key(const struct flow_key *one, const struct flow_key *other)
{
	const u64 *a = (const void *)one, *b = (const void *)other;

	for (int i = 0; i < KEY_BYTES / 8; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

/* Say whether this packet is sent within a call of the current process on this very socket.
 *
 * TCP also sends in answer to packets, in whatever process the processor is at work for then; but never while a
 * process has the socket locked, so that is whose packet it is. A listener is the exception. All others send
 * in a call only. Kernel threads have no memory of their own.
 */
static __always_inline int in_call(struct bpf_sock *sk)
{
	if (sk->protocol == TCP) {
		struct sock *of_kernel = (void *)bpf_skc_to_tcp_sock(sk);

		if (sk->state == TCP_LISTEN || !of_kernel || !BPF_CORE_READ(of_kernel, sk_lock.owned))
			return 0;
	}
	return BPF_CORE_READ(current_task(), mm) != NULL;
}

/* A socket that was passed on, inherited or accepted is of whoever sends on it now. */
static __always_inline void look_at_sender(struct bpf_sock *sk, struct held *held, struct settings *ours)
{
	/* Fields of this one are read without a call: every packet to the device comes here. */
	struct task_struct *task = bpf_get_current_task_btf();

	if ((task->tgid != held->user.pid || task->self_exec_id != held->execution || (u64)task->mm != held->memory) &&
	    in_call(sk))
		use(held, ours);
}

static __always_inline void write_flow(struct flow_key *key, struct user *user)
{
	struct user *before = bpf_map_lookup_elem(&flows, key);
	int is_passed = before && (before->owner != user->owner || before->pin != user->pin);

	publish(user->owner);
	bpf_map_update_elem(&flows, key, user, BPF_ANY);
	if (is_passed)
		bpf_ringbuf_output(&passed, key, sizeof(*key), 0);
}

SEC("cgroup_skb/egress")
int on_packet(struct __sk_buff *skb)
{
	struct settings *ours = our_settings();
	struct flow_key key __attribute__((aligned(8))) = {};
	struct bpf_sock *sk;
	struct held *held;
	int is_fresh, in_fragments;
	u32 ports;
	u64 now;

	if (!ours || skb->ifindex != ours->device)
		return 1;
	sk = skb->sk;
	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	held = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!held) {
		/* Older than these programs. Who is in another namespace may use the same number for a device. */
		if (!in_call(sk) || BPF_CORE_READ(current_task(), nsproxy, net_ns, net_cookie) != ours->netns)
			return 1;
		held = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!held)
			return 1;
	}
	look_at_sender(sk, held, ours);
	now = bpf_ktime_get_coarse_ns();
	is_fresh = held->written && now - held->written < FRESH_NS;
	in_fragments = skb->len > ours->mtu && !skb->gso_segs;
	if (held->certain && is_fresh && !in_fragments)
		return 1;
	ports = read_key(skb, key.bytes);
	if (!ports)
		return 1;
	if (!is_fresh || !same_key(&held->key, &key)) {
		write_flow(&key, &held->user);
		held->key = key;
		held->written = now;
		held->certain = sk->protocol == TCP ? sk->state != TCP_LISTEN : sk->protocol == UDP && sk->dst_port;
	}
	if (in_fragments) { /* which have no ports (packet/ip.py) */
		for (int i = 0; i < 4; i++)
			key.bytes[ports + i] = 0;
		bpf_map_update_elem(&flows, &key, &held->user, BPF_ANY);
	}
	return 1;
}
