/* What the programs of owner.bpf.c and linux/owners.py say to each other: the records, byte by byte.
 *
 * Paths of files and cgroups are written as they are walked, the innermost name first, each ended by a zero byte;
 * whoever reads turns them round. All else is in this machine's byte order, but the flow keys, which are
 * packet/ip.py's.
 */
#pragma once

#include "kernel.h"

#define PATH_BYTES 640
#define TEXT_BYTES 384
#define CGROUP_BYTES 768
#define NAME_BYTES 256 /* NAME_MAX and a zero byte: as much room is left where a name is written */
#define KEY_BYTES 40
#define COMMAND_BYTES 16
#define PIN_BYTES 64

struct flow_key {
	u8 bytes[KEY_BYTES]; /* and zeros */
};

struct path_key {
	char bytes[PATH_BYTES];
};

struct pin_name {
	char bytes[PIN_BYTES];
};

/* execution.flags */
#define SCRIPT 1   /* `text` is the script that was executed */
#define ARGUMENT 2 /* `text` is the program's first argument */
#define VIA_ENV 4  /* the script's interpreter is env, which will execute the real one */
#define PATH_CUT 8
#define TEXT_CUT 16
#define BASE_CUT 32
#define UNSEEN 64  /* the execution was not seen: it is older than these programs */

/* user.flags */
#define FOREIGN 1  /* it sees other files than the daemon: another mount namespace with another root */

struct execution {
	u64 owner;
	u32 processes; /* that run it */
	u32 flags;
	char path[PATH_BYTES];
	char text[TEXT_BYTES];
	char base[PATH_BYTES]; /* the directory that a relative `text` begins at */
};

struct process {
	u64 owner;
	u64 start; /* its leader's start_boottime: no other process with this id has the same */
	u64 pin;   /* `sojourn run --app`: 0, or a key of `names` */
};

struct user { /* who used a socket last */
	u64 owner;
	u64 pin;
	u64 cgroup;
	u32 pid;
	u32 uid;
	u32 flags;
	u32 reserved;
	char command[COMMAND_BYTES];
};

struct held { /* with each socket */
	struct user user;
	u64 memory; /* of the task that used it: with process and count of executions the quick look at who it was */
	u64 execution;
	u64 written; /* when its flow was written last; 0 = never by this user */
	struct flow_key key;
	u32 certain; /* it has but one flow, and that is written */
	u32 marked;  /* its mark is ours */
};

struct cgroup_path {
	u32 complete;
	u32 cut;
	char path[CGROUP_BYTES];
};

struct settings {
	u64 netns;   /* cookie of the network namespace that is ours */
	u64 root;    /* id of the cgroup that counts as the root */
	u64 inode;   /* of the daemon's root directory, and its file system's number */
	u32 system;
	u32 device;  /* index of the TUN device, 0 = there is none yet */
	u32 mtu;
	u32 mounts;  /* inode of the daemon's mount namespace */
	u32 mark;
	u32 mask;
	u32 direct;  /* there are rules by which flows go direct */
};

/* verdict.kind: what `value` is */
#define BY_OWNER 1
#define BY_PIN 2
#define BY_COMMAND 3
#define BY_CGROUP 4
#define BY_USER 5
#define BY_ANYONE 6

#define UNDECIDED 0xffffffff

struct verdict {
	u32 kind;
	u32 reserved;
	char value[COMMAND_BYTES];
};
