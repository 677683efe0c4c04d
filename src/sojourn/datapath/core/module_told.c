/* What Python is told: notices, what tunnels did without it, and counts. One thread of Python's calls this. */
#include "module.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const COUNT_NAMES[COUNTS] = {
    "wrong-tunnel", "forged", "replayed", "not_sent_queue_full", "send-too-big", "not_sent_eperm", "not_sent_other",
    "not_written_einval", "not_written_eio", "not_written_other", "slow-path-full", "core_slow_reads",
    "core_slow_packets", "core_messages", "core_writes", "core_no_memory", "core_flows_begun", "flow-rate", "flows-full",
    "core_answers",
};

static PyObject *notice_tuple(const struct notice *notice)
{
    const struct sockaddr_in *four = (const struct sockaddr_in *)&notice->from;
    const bool is_four = notice->from.sin6_family == AF_INET, is_six = notice->from.sin6_family == AF_INET6;
    const void *address = is_four ? (const void *)&four->sin_addr : (const void *)&notice->from.sin6_addr;
    return Py_BuildValue(
        "(iLIIiOKiiIdy#IIy#y#)", (int)notice->kind, (long long)notice->tunnel, notice->epoch, notice->counter,
        notice->hint, notice->highest ? Py_True : Py_False, (unsigned long long)notice->before, notice->ecn, notice->fd, notice->bytes,
        to_seconds(notice->at), address, (Py_ssize_t)(is_four ? 4 : is_six ? 16 : 0),
        (unsigned)ntohs(notice->from.sin6_port), is_six ? notice->from.sin6_scope_id : 0u, notice->via,
        (Py_ssize_t)notice->via_bytes, notice->data, (Py_ssize_t)notice->size);
}

PyObject *told_take(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int ring, most;
    if (!core || !PyArg_ParseTuple(arguments, "II", &ring, &most))
        return NULL;
    PyObject *list = ring < RINGS ? PyList_New(0) : PyErr_Format(PyExc_ValueError, "no queue %u", ring);
    for (struct notice *notice; list && most-- && (notice = notice_take(core, (enum ring)ring));) {
        PyObject *item = notice_tuple(notice);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject *told_done(PyObject *self, PyObject *unused)
{
    struct core *core = core_of(self);
    if (!core)
        return NULL;
    notices_done(core);
    Py_RETURN_NONE;
}

/* Say that notices are going to be taken now: what comes from here on wakes Python again. */
PyObject *told_rest(PyObject *self, PyObject *unused)
{
    struct core *core = core_of(self);
    uint64_t times;
    if (!core)
        return NULL;
    (void)!read(core->wake_fd, &times, sizeof times);
    atomic_store(&core->woken, false);
    Py_RETURN_NONE;
}

/* Take one way's packets and bytes: from now on Python counts them. */
static uint64_t take(_Atomic uint64_t *packets, uint64_t *taken)
{
    const uint64_t count = atomic_exchange(packets, 0);
    *taken += count;
    return count;
}

static PyObject *activity_of(struct tunnel *tunnel)
{
    const uint64_t in = take(&tunnel->packets_in, &tunnel->taken_in), out = take(&tunnel->packets_out, &tunnel->taken_out);
    return Py_BuildValue(
        "(IdddddKKKKdI)", tunnel->id, to_seconds(atomic_exchange(&tunnel->first_in, 0)),
        to_seconds(atomic_exchange(&tunnel->last_in, 0)), to_seconds(atomic_exchange(&tunnel->first_out, 0)),
        to_seconds(atomic_exchange(&tunnel->out_after_in, 0)), to_seconds(atomic_exchange(&tunnel->last_out, 0)),
        (unsigned long long)in, (unsigned long long)atomic_exchange(&tunnel->bytes_in, 0), (unsigned long long)out,
        (unsigned long long)atomic_exchange(&tunnel->bytes_out, 0), to_seconds(atomic_exchange(&tunnel->frame_at, 0)),
        atomic_exchange(&tunnel->reported, 0));
}

/* What `activity_of` says of a tunnel that moved no data, and how far its peer has come. */
static PyObject *answered_of(struct tunnel *tunnel)
{
    const uint32_t current = atomic_load(&tunnel->current);
    const uint64_t in = take(&tunnel->packets_in, &tunnel->taken_in), out = take(&tunnel->packets_out, &tunnel->taken_out);
    return Py_BuildValue(
        "(IdIKKKKIL)", tunnel->id, to_seconds(atomic_exchange(&tunnel->frame_at, 0)), atomic_exchange(&tunnel->reported, 0),
        (unsigned long long)in, (unsigned long long)atomic_exchange(&tunnel->bytes_in, 0), (unsigned long long)out,
        (unsigned long long)atomic_exchange(&tunnel->bytes_out, 0), current, (long long)top_of(tunnel, current));
}

PyObject *told_taken(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id;
    if (!core || !PyArg_ParseTuple(arguments, "I", &id))
        return NULL;
    const struct tunnel *tunnel = tunnel_find(core, id);
    return Py_BuildValue("(KK)", (unsigned long long)(tunnel ? tunnel->taken_in : 0),
                         (unsigned long long)(tunnel ? tunnel->taken_out : 0));
}

PyObject *told_activity(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id;
    if (!core || !PyArg_ParseTuple(arguments, "I", &id))
        return NULL;
    struct tunnel *tunnel = tunnel_find(core, id);
    return tunnel ? activity_of(tunnel) : Py_NewRef(Py_None);
}

static void add(PyObject **list, PyObject *item)
{
    if (!item || PyList_Append(*list, item) < 0)
        Py_CLEAR(*list);
    Py_XDECREF(item);
}

PyObject *told_poll(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    int again;
    if (!core || !PyArg_ParseTuple(arguments, "p", &again))
        return NULL;
    atomic_store(&core->polling, again);
    pthread_mutex_lock(&core->dirty_lock);
    struct numbers dirty = core->dirty;
    core->dirty = (struct numbers){0};
    pthread_mutex_unlock(&core->dirty_lock);
    PyObject *list = PyList_New(0);
    for (unsigned i = 0; list && i < dirty.count; i++) {
        struct tunnel *tunnel = tunnel_find(core, dirty.at[i]);
        if (!tunnel)
            continue;
        atomic_store(&tunnel->dirty, false); /* before the rest is read: what comes now is told the next time */
        add(&list, activity_of(tunnel));
    }
    free(dirty.at);
    if (core->retired)
        reap(core);
    return list;
}

/* Tunnels on which probes were answered. Those that moved data, too, are on `poll`'s list, which tells all of it. */
PyObject *told_quiet(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int most;
    if (!core || !PyArg_ParseTuple(arguments, "I", &most))
        return NULL;
    PyObject *list = PyList_New(0);
    while (list && most--) {
        uint32_t number = 0;
        pthread_mutex_lock(&core->dirty_lock);
        const bool more = core->quiet.count;
        if (more)
            number = core->quiet.at[--core->quiet.count];
        pthread_mutex_unlock(&core->dirty_lock);
        struct tunnel *tunnel = more ? tunnel_find(core, number) : NULL;
        if (!more)
            break;
        if (tunnel) {
            atomic_store(&tunnel->quiet, false);
            if (atomic_load(&tunnel->frame_at) && !atomic_load(&tunnel->first_in) && !atomic_load(&tunnel->first_out))
                add(&list, answered_of(tunnel));
        }
    }
    return list;
}

PyObject *told_counts(PyObject *self, PyObject *unused)
{
    struct core *core = core_of(self);
    PyObject *all = core ? PyDict_New() : NULL;
    for (unsigned i = 0; all && i < COUNTS; i++) {
        uint64_t value = atomic_exchange(&core->counts[i], 0);
        if (!value)
            continue;
        PyObject *number = PyLong_FromUnsignedLongLong(value);
        if (!number || PyDict_SetItemString(all, COUNT_NAMES[i], number) < 0)
            Py_CLEAR(all);
        Py_XDECREF(number);
    }
    return all;
}
