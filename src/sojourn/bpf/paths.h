/* Paths as the kernel keeps them: chains of names, walked from the inside out.
 *
 * bpf_d_path() may not be called where these programs are, so the walk is done here, and it has an end. bpf_loop
 * (Linux 5.17) rather than a loop of C: the verifier then looks at one step, and not at all ways to make forty.
 */
#pragma once

#include "owner.h"

#define PATH_DEPTH 64

struct walk {
	char *out;
	u32 at;
	u32 complete;
	struct dentry *dentry, *root_dentry;
	struct vfsmount *vfs, *root_vfs;
};

static long walk_step(u32 number, struct walk *walk)
{
	struct dentry *dentry = walk->dentry, *parent;
	struct vfsmount *vfs = walk->vfs;
	u32 at = walk->at;
	long size;

	if (!dentry || (dentry == walk->root_dentry && vfs == walk->root_vfs)) {
		walk->complete = 1;
		return 1;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	if (dentry == parent || dentry == BPF_CORE_READ(vfs, mnt_root)) {
		struct mount *mount = (void *)vfs - bpf_core_field_offset(struct mount, mnt);
		struct mount *below = BPF_CORE_READ(mount, mnt_parent);

		if (below == mount) {
			walk->complete = 1;
			return 1;
		}
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->vfs = (void *)below + bpf_core_field_offset(struct mount, mnt);
		return 0;
	}
	if (at > PATH_BYTES - NAME_BYTES)
		return 1;
	size = bpf_probe_read_kernel_str(walk->out + at, NAME_BYTES, BPF_CORE_READ(dentry, d_name.name));
	if (size <= 0)
		return 1;
	walk->at = at + size;
	walk->dentry = parent;
	return 0;
}

/* Write the names from `path` up to `root` to PATH_BYTES at `out`; say whether there was no room for all. */
static __always_inline u32 walk_path(char *out, const struct path *path, const struct path *root)
{
	struct walk walk = {
		.out = out,
		.dentry = BPF_CORE_READ(path, dentry),
		.root_dentry = BPF_CORE_READ(root, dentry),
		.vfs = BPF_CORE_READ(path, mnt),
		.root_vfs = BPF_CORE_READ(root, mnt),
	};

	bpf_loop(PATH_DEPTH, walk_step, &walk, 0);
	return !walk.complete;
}

struct cgroup_walk {
	struct cgroup_path *out;
	struct kernfs_node *node;
	u64 root;
	u32 at;
	u32 complete;
};

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *node)
{
	struct kernfs_node___615 *newer = (void *)node;

	if (bpf_core_field_exists(newer->__parent))
		return BPF_CORE_READ(newer, __parent);
	return BPF_CORE_READ(node, parent);
}

static long cgroup_step(u32 number, struct cgroup_walk *walk)
{
	struct kernfs_node *node = walk->node, *parent = kernfs_parent(node);
	u32 at = walk->at;
	long size;

	if (!parent || BPF_CORE_READ(node, id) == walk->root) {
		walk->complete = 1;
		return 1;
	}
	if (at > CGROUP_BYTES - NAME_BYTES)
		return 1;
	size = bpf_probe_read_kernel_str(walk->out->path + at, NAME_BYTES, BPF_CORE_READ(node, name));
	if (size <= 0)
		return 1;
	walk->at = at + size;
	walk->node = parent;
	return 0;
}

/* Write the names from a cgroup up to the one with the id `root`. */
static __always_inline void walk_cgroup(struct cgroup_path *out, struct kernfs_node *node, u64 root)
{
	struct cgroup_walk walk = { .out = out, .node = node, .root = root };

	bpf_loop(PATH_DEPTH, cgroup_step, &walk, 0);
	out->cut = !walk.complete;
}
