/* Row: one flow's place, as the core and Python (datapath/core_rows.py) both see it. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

static struct core *owner_core(const struct row_object *self)
{
    return self->owner ? ((struct core_object *)self->owner)->core : NULL;
}

static int row_init(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    struct row_object *self = (struct row_object *)object;
    PyObject *owner;
    long long association;
    if (!PyArg_ParseTuple(arguments, "OL", &owner, &association))
        return -1;
    if (self->row || !core_of(owner))
        return -1;
    self->row = row_new(association, NO_TUNNEL);
    if (!self->row) {
        PyErr_NoMemory();
        return -1;
    }
    Py_INCREF(owner);
    self->owner = owner;
    return 0;
}

static void row_dealloc(PyObject *object)
{
    struct row_object *self = (struct row_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    struct core *core = owner_core(self);
    if (self->row && core) {
        row_unlink(core, self->row);
        retire(core, self->row, free);
    } else {
        free(self->row);
    }
    Py_XDECREF(self->owner);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

bool key_of(struct flow_key *key, const char *data, Py_ssize_t size)
{
    if (size != 13 && size != FLOW_KEY_MOST) {
        PyErr_Format(PyExc_ValueError, "a flow key of %zd bytes", size);
        return false;
    }
    key->size = (uint8_t)size;
    memcpy(key->bytes, data, (size_t)size);
    return true;
}

static PyObject *link_row(PyObject *object, PyObject *argument)
{
    struct row_object *self = (struct row_object *)object;
    struct flow_key key;
    char *data;
    Py_ssize_t size;
    struct core *core = self->owner ? core_of(self->owner) : NULL;
    if (!core || PyBytes_AsStringAndSize(argument, &data, &size) < 0 || !key_of(&key, data, size))
        return NULL;
    return PyBool_FromLong(row_link(core, self->row, &key, true));
}

static PyObject *unlink_row(PyObject *object, PyObject *unused)
{
    struct row_object *self = (struct row_object *)object;
    struct core *core = owner_core(self);
    if (core)
        row_unlink(core, self->row);
    Py_RETURN_NONE;
}

static PyObject *drain(PyObject *object, PyObject *unused)
{
    struct row *row = ((struct row_object *)object)->row;
    if (!atomic_load_explicit(&row->packets_in, memory_order_relaxed) &&
        !atomic_load_explicit(&row->packets_out, memory_order_relaxed))
        Py_RETURN_NONE;
    return Py_BuildValue("(KKKK)", (unsigned long long)atomic_exchange(&row->packets_in, 0),
                         (unsigned long long)atomic_exchange(&row->bytes_in, 0),
                         (unsigned long long)atomic_exchange(&row->packets_out, 0),
                         (unsigned long long)atomic_exchange(&row->bytes_out, 0));
}

/* move([Row], tunnel or None, number, now): what became of each, a byte of `enum move_result` a row. */
PyObject *move_rows(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    PyObject *rows, *place;
    long long number, tunnel = NO_TUNNEL;
    double now;
    if (!core || !PyArg_ParseTuple(arguments, "O!OLd", &PyList_Type, &rows, &place, &number, &now) ||
        (place != Py_None && (tunnel = PyLong_AsLongLong(place)) == -1 && PyErr_Occurred()))
        return NULL;
    Py_ssize_t count = PyList_Size(rows);
    PyObject *results = PyBytes_FromStringAndSize(NULL, count);
    char *result = results ? PyBytes_AsString(results) : NULL;
    for (Py_ssize_t i = 0; result && i < count; i++) {
        PyObject *row = PyList_GetItem(rows, i);
        if (PyType_GetSlot(Py_TYPE(row), Py_tp_dealloc) != (void *)row_dealloc) {
            Py_DECREF(results);
            return PyErr_Format(PyExc_TypeError, "not a row of the core");
        }
        result[i] = (char)row_move(((struct row_object *)row)->row, tunnel, number, to_ns(now));
    }
    return results;
}

static PyObject *get_tunnel(PyObject *object, void *which)
{
    struct row *row = ((struct row_object *)object)->row;
    int64_t tunnel = atomic_load(which ? &row->left : &row->tunnel);
    if (tunnel == NO_TUNNEL)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(tunnel);
}

static int set_tunnel(PyObject *object, PyObject *value, void *which)
{
    struct row *row = ((struct row_object *)object)->row;
    int64_t tunnel = NO_TUNNEL;
    if (value && value != Py_None && (tunnel = PyLong_AsLongLong(value)) == -1 && PyErr_Occurred())
        return -1;
    atomic_store(which ? &row->left : &row->tunnel, tunnel);
    return 0;
}

static _Atomic int64_t *stamp(PyObject *object, void *which)
{
    struct row *row = ((struct row_object *)object)->row;
    return which == (void *)0 ? &row->last_used : which == (void *)1 ? &row->left_at : &row->closing;
}

static PyObject *get_stamp(PyObject *object, void *which)
{
    return PyFloat_FromDouble(to_seconds(atomic_load(stamp(object, which))));
}

static int set_stamp(PyObject *object, PyObject *value, void *which)
{
    double seconds = value ? PyFloat_AsDouble(value) : 0.0;
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    atomic_store(stamp(object, which), to_ns(seconds));
    return 0;
}

/* Wrap a row that the core has made: from now on it is Python's. `type` is Row. */
PyObject *adopt_row(PyObject *owner, PyTypeObject *type, struct row *row)
{
    struct row_object *self = (struct row_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self) {
        Py_INCREF(owner);
        self->owner = owner;
        self->row = row;
    }
    return (PyObject *)self;
}

static PyObject *get_linked(PyObject *object, void *unused)
{
    return PyBool_FromLong(atomic_load(&((struct row_object *)object)->row->linked));
}

static PyObject *get_move(PyObject *object, void *unused)
{
    return PyLong_FromLongLong(((struct row_object *)object)->row->move);
}

static int set_move(PyObject *object, PyObject *value, void *unused)
{
    long long number = value ? PyLong_AsLongLong(value) : 0;
    if (number == -1 && PyErr_Occurred())
        return -1;
    ((struct row_object *)object)->row->move = number;
    return 0;
}

static _Atomic bool *flag(PyObject *object, void *which)
{
    struct row *row = ((struct row_object *)object)->row;
    return which ? &row->answered : &row->slow;
}

static PyObject *get_flag(PyObject *object, void *which)
{
    return PyBool_FromLong(atomic_load(flag(object, which)));
}

static int set_flag(PyObject *object, PyObject *value, void *which)
{
    int is_set = value ? PyObject_IsTrue(value) : 0;
    if (is_set < 0)
        return -1;
    atomic_store(flag(object, which), is_set);
    return 0;
}

static PyGetSetDef row_attributes[] = {
    {"tunnel", get_tunnel, set_tunnel, "The path in use, or None.", NULL},
    {"left", get_tunnel, set_tunnel, "The path before it, or None.", (void *)1},
    {"move", get_move, set_move, "The number of the request that put it where it is, 0 = none did.", NULL},
    {"last_used", get_stamp, set_stamp, "When a packet passed last.", (void *)0},
    {"left_at", get_stamp, set_stamp, "When the path before was left.", (void *)1},
    {"closing", get_stamp, set_stamp, "When FIN or RST was seen, 0 = not.", (void *)2},
    {"linked", get_linked, NULL, "It is in the table.", NULL},
    {"slow", get_flag, set_flag, "Packets of this row go up to Python.", NULL},
    {"answered", get_flag, set_flag, "A packet from the TUN was seen: a host's core waits for Python to say so.", (void *)1},
    {NULL},
};

static PyMethodDef row_methods[] = {
    {"link", link_row, METH_O, "Put the row under its key; say whether the key was free."},
    {"unlink", unlink_row, METH_NOARGS, "Take the row out of the table."},
    {"drain", drain, METH_NOARGS,
     "Return (packets in, bytes in, packets out, bytes out) since the last call, or None for nothing."},
    {NULL},
};

static PyType_Slot row_slots[] = {
    {Py_tp_init, row_init}, {Py_tp_dealloc, row_dealloc}, {Py_tp_methods, row_methods},
    {Py_tp_getset, row_attributes}, {Py_tp_new, PyType_GenericNew},
    {Py_tp_doc, "Row(core, association): one flow's place, read by the core's threads."}, {0, NULL},
};

PyType_Spec row_spec = {"sojourn.datapath._core.Row", sizeof(struct row_object), 0, Py_TPFLAGS_DEFAULT, row_slots};
