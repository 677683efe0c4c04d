/* Core: tunnels and descriptors as Python (datapath/core_engine.py) sets them. One thread of Python's calls this. */
#include "module.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

struct core *core_of(PyObject *self)
{
    struct core *core = ((struct core_object *)self)->core;
    if (!core)
        PyErr_SetString(PyExc_ValueError, "the core is closed");
    return core;
}

static int core_init(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    struct core_object *self = (struct core_object *)object;
    unsigned int each = 1;
    if (!PyArg_ParseTuple(arguments, "|I", &each))
        return -1;
    if (self->core)
        return 0;
    if (!each || each > MAX_WORKERS) {
        PyErr_Format(PyExc_ValueError, "%u threads a direction: 1 to %d", each, MAX_WORKERS);
        return -1;
    }
    self->core = core_new();
    if (self->core && workers_make(self->core, each))
        return 0;
    PyErr_NoMemory();
    return -1;
}

static void core_dealloc(PyObject *object)
{
    struct core_object *self = (struct core_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    drive_free(self->drive);
    if (self->core) {
        workers_stop(self->core);
        core_free(self->core);
    }
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *core_fileno(PyObject *self, PyObject *unused)
{
    struct core *core = core_of(self);
    return core ? PyLong_FromLong(core->wake_fd) : NULL;
}

static PyObject *core_configure(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    int anchor;
    if (!core || !PyArg_ParseTuple(arguments, "p", &anchor))
        return NULL;
    core->inbound_reads = anchor;
    Py_RETURN_NONE;
}

static PyObject *core_start(PyObject *self, PyObject *unused)
{
    struct core *core = core_of(self);
    if (!core)
        return NULL;
    if (!core->running && !workers_start(core)) {
        PyErr_SetString(PyExc_OSError, "no thread can be made");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *core_stop(PyObject *self, PyObject *unused)
{
    struct core *core = core_of(self);
    if (!core)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    workers_stop(core);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Descriptors. */

static PyObject *core_watch_tun(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    int fd, uso;
    if (!core || !PyArg_ParseTuple(arguments, "ip", &fd, &uso))
        return NULL;
    return watch_tun(core, fd, uso) ? Py_NewRef(Py_None) : PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *core_use_uso(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    int uso;
    if (!core || !PyArg_ParseTuple(arguments, "p", &uso))
        return NULL;
    atomic_store(&core->tun_uso, uso);
    Py_RETURN_NONE;
}

static PyObject *core_watch_socket(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    int fd, gso, gro;
    long long tunnel;
    if (!core || !PyArg_ParseTuple(arguments, "iLpp", &fd, &tunnel, &gso, &gro))
        return NULL;
    if (!watch_socket(core, fd, tunnel, gso, gro))
        return PyErr_Format(PyExc_OSError, "the core cannot watch another socket");
    Py_RETURN_NONE;
}

static PyObject *core_unwatch(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    int fd;
    if (!core || !PyArg_ParseTuple(arguments, "i", &fd))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    unwatch(core, fd);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *core_behind(PyObject *self, PyObject *unused)
{
    struct core *core = core_of(self);
    return core ? PyLong_FromLongLong(core->running ? behind(core) : -1) : NULL;
}

/* Tunnels. */

struct tunnel *tunnel_of(struct core *core, unsigned int id)
{
    struct tunnel *tunnel = core ? tunnel_make(core, id) : NULL;
    if (core && !tunnel)
        PyErr_NoMemory();
    return tunnel;
}

void fill_address(struct path *path, const char *address, Py_ssize_t size, unsigned port, unsigned scope)
{
    if (size == 4) {
        struct sockaddr_in *to = (struct sockaddr_in *)&path->to;
        to->sin_family = AF_INET;
        to->sin_port = htons((uint16_t)port);
        memcpy(&to->sin_addr, address, 4);
        path->to_bytes = sizeof *to;
    } else {
        path->to.sin6_family = AF_INET6;
        path->to.sin6_port = htons((uint16_t)port);
        path->to.sin6_scope_id = scope;
        memcpy(&path->to.sin6_addr, address, 16);
        path->to_bytes = sizeof path->to;
    }
}

static PyObject *core_set_path(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id, port, scope, mtu;
    long long association;
    int fd, may_send;
    const char *address, *via;
    Py_ssize_t size, via_size;
    if (!core || !PyArg_ParseTuple(arguments, "ILiy#IIy#Ip", &id, &association, &fd, &address, &size, &port, &scope,
                                   &via, &via_size, &mtu, &may_send))
        return NULL;
    struct udp_socket *socket = find_socket(core, fd);
    struct path *path = NULL;
    if (!socket || (size != 4 && size != 16) || via_size > VIA_BYTES || mtu < 576 || mtu > MAX_PACKET)
        return PyErr_Format(PyExc_ValueError, "no path can be made of descriptor %d and MTU %u", fd, mtu);
    struct tunnel *tunnel = tunnel_of(core, id);
    if (!tunnel)
        return NULL;
    if (!(path = calloc(1, sizeof *path)))
        return PyErr_NoMemory();
    path->association = association;
    path->socket = socket;
    path->inner_mtu = (uint16_t)mtu;
    path->may_send = may_send;
    path->via_bytes = (uint8_t)via_size;
    memcpy(path->via, via, (size_t)via_size);
    fill_address(path, address, size, port, scope);
    retire(core, atomic_exchange(&tunnel->path, path), free);
    Py_RETURN_NONE;
}

static PyObject *core_clear_path(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id;
    if (!core || !PyArg_ParseTuple(arguments, "I", &id))
        return NULL;
    struct tunnel *tunnel = tunnel_find(core, id);
    if (tunnel)
        retire(core, atomic_exchange(&tunnel->path, NULL), free);
    Py_RETURN_NONE;
}

static PyObject *core_set_hold(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id;
    double seconds;
    if (!core || !PyArg_ParseTuple(arguments, "Id", &id, &seconds))
        return NULL;
    struct tunnel *tunnel = tunnel_of(core, id);
    if (!tunnel)
        return NULL;
    atomic_store(&tunnel->hold, to_ns(seconds));
    Py_RETURN_NONE;
}

static PyObject *core_forget(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id;
    if (!core || !PyArg_ParseTuple(arguments, "I", &id))
        return NULL;
    tunnel_forget(core, id);
    reap(core);
    Py_RETURN_NONE;
}

static PyMethodDef core_methods[] = {
    {"fileno", core_fileno, METH_NOARGS, "Return the descriptor that is readable when `poll` and `take` are wanted."},
    {"configure", core_configure, METH_VARARGS, "configure(anchor)"},
    {"start", core_start, METH_NOARGS, "Let the threads run."},
    {"stop", core_stop, METH_NOARGS, "End the threads, for good."},
    {"watch_tun", core_watch_tun, METH_VARARGS, "watch_tun(fd, uso): one queue of the device."},
    {"use_uso", core_use_uso, METH_VARARGS, "use_uso(whether): the device takes super-packets of UDP."},
    {"watch_socket", core_watch_socket, METH_VARARGS, "watch_socket(fd, tunnel or -1, gso, gro)"},
    {"unwatch", core_unwatch, METH_VARARGS, "unwatch(fd): it may be closed afterwards."},
    {"behind", core_behind, METH_NOARGS, "Return the receiving thread's turn while datagrams wait for it, else -1."},
    {"set_path", core_set_path, METH_VARARGS, "set_path(tunnel, association, fd, address, port, scope, via, inner mtu, may send)"},
    {"clear_path", core_clear_path, METH_VARARGS, "clear_path(tunnel): everything of it goes up."},
    {"set_hold", core_set_hold, METH_VARARGS, "set_hold(tunnel, seconds): for learning."},
    {"forget", core_forget, METH_VARARGS, "forget(tunnel)"},
    {"set_send_key", keys_set_send_key, METH_VARARGS, "set_send_key(tunnel, epoch, first word, aead, key, iv)"},
    {"counter", keys_counter, METH_VARARGS, "counter(tunnel): the next one of its epoch."},
    {"skip", keys_skip, METH_VARARGS, "skip(tunnel, counter): the next one is this or a higher one."},
    {"set_books", keys_set_books, METH_VARARGS,
     "set_books(tunnel, epoch, counter, packets in, packets out): what Python counts; epoch, counter: of the last it had."},
    {"seal", keys_seal, METH_VARARGS, "seal(tunnel, text, hint): the datagram."},
    {"set_receive_keys", keys_set_receive_keys, METH_VARARGS,
     "set_receive_keys(tunnel, current, [(epoch, aead, key, iv, seen)]), newest first."},
    {"top", keys_top, METH_VARARGS, "top(tunnel, epoch): the highest counter opened, -1 for none."},
    {"window", keys_window, METH_VARARGS, "window(tunnel, epoch): (top, bits), bit d = top - d was seen."},
    {"open", keys_open, METH_VARARGS, "open(tunnel, datagram): (text, epoch, counter, hint, highest) or a reason."},
    {"take", told_take, METH_VARARGS, "take(queue, most): the oldest notices of a queue."},
    {"done", told_done, METH_NOARGS, "What was taken has been worked on: later packets may be forwarded."},
    {"rest", told_rest, METH_NOARGS, "Take note of being woken, before anything is taken."},
    {"move", move_rows, METH_VARARGS, "move([Row], tunnel or None, number, now): what became of each, a byte a row."},
    {"set_book", set_book, METH_VARARGS,
     "set_book(version, asks, otherwise, [(tunnel or -2, [match], [network] or None)], [rule of flows of nobody known])"},
    {"set_guard", set_guard, METH_VARARGS, "set_guard(signal port, [inner], [port], [refused], [allowed]): for an anchor."},
    {"set_holder", set_holder, METH_VARARGS, "set_holder(association, IPv4, IPv6): it may begin flows."},
    {"drop_holder", drop_holder, METH_VARARGS, "drop_holder(association)"},
    {"may_begin", core_may_begin, METH_VARARGS, "may_begin(association, now): whether one more flow; it is counted."},
    {"set_owners", set_owners, METH_VARARGS, "set_owners(fd or -1): the map flow -> user; the one before may be closed."},
    {"know", know, METH_VARARGS, "know(user, version, [rule]): the rules that are left for a program."},
    {"place", place_of, METH_VARARGS, "place(key, [rule]): (tunnel or -2, which rule or -1)."},
    {"passes", passes, METH_VARARGS, "passes(key): whether the guard lets a flow begin for certain."},
    {"births", births, METH_VARARGS,
     "births(most, Row): [(row, key, association, version, when, user)] of flows that the core has begun."},
    {"poll", told_poll, METH_VARARGS, "poll(again): what tunnels did since the last call; again = without being woken."},
    {"quiet", told_quiet, METH_VARARGS, "quiet(most): tunnels on which nothing happened but that probes were answered: (tunnel, when the last was, "
                                         "what it reported, packets in, bytes, packets out, bytes, newest epoch opened, its highest counter)."},
    {"taken", told_taken, METH_VARARGS, "taken(tunnel): packets in and out that `poll`, `quiet` and `activity` have told of it."},
    {"activity", told_activity, METH_VARARGS, "activity(tunnel): what `poll` says of this one, now; None if there is none."},
    {"counts", told_counts, METH_NOARGS, "Return what was counted since the last call."},
    {"drive_tun", drive_tun, METH_VARARGS, "drive_tun(read or None): messages that would be sent; None flushes."},
    {"drive_answers", drive_answers, METH_NOARGS, "Return what was answered in `drive_udp` since the last call: [(tunnel, datagram)]."},
    {"drive_udp", drive_udp, METH_VARARGS, "drive_udp(fd, data, segment, address, port, ecn): writes that would be done."},
    {NULL},
};

static PyType_Slot core_slots[] = {
    {Py_tp_init, core_init}, {Py_tp_dealloc, core_dealloc}, {Py_tp_methods, core_methods},
    {Py_tp_new, PyType_GenericNew}, {Py_tp_doc, "Core(each=1): tables of one data path, and so many threads a direction."}, {0, NULL},
};

PyType_Spec core_spec = {"sojourn.datapath._core.Core", sizeof(struct core_object), 0, Py_TPFLAGS_DEFAULT, core_slots};
