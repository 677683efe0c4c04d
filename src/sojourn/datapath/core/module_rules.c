/* Core: what it may answer new flows by, as Python (datapath/core_births.py) sets it, and the rows that came of it. */
#include "module.h"
#include "rules.h"

#include <stdlib.h>
#include <string.h>

/* Return `count` zeroed items, at least one: NULL means that there is no memory. */
static void *items(Py_ssize_t count, size_t each)
{
    void *made = calloc(count > 0 ? (size_t)count : 1, each);
    if (!made)
        PyErr_NoMemory();
    return made;
}

static bool fill_net(struct net *net, const char *prefix, Py_ssize_t size, const char *mask, Py_ssize_t mask_size)
{
    if ((size && size != 4 && size != 16) || size != mask_size) {
        PyErr_Format(PyExc_ValueError, "a network of %zd bytes, its mask of %zd", size, mask_size);
        return false;
    }
    net->size = (uint8_t)size;
    memcpy(net->prefix, prefix, (size_t)size);
    memcpy(net->mask, mask, (size_t)size);
    return true;
}

/* [(prefix, mask)] */
static struct net *nets_of(PyObject *list, unsigned *count)
{
    Py_ssize_t many = PyList_Size(list);
    struct net *nets = many < 0 ? NULL : items(many, sizeof *nets);
    *count = 0;
    for (; nets && *count < many; ++*count) {
        const char *prefix, *mask;
        Py_ssize_t size, mask_size;
        if (!PyArg_ParseTuple(PyList_GetItem(list, *count), "y#y#", &prefix, &size, &mask, &mask_size) ||
            !fill_net(&nets[*count], prefix, size, mask, mask_size)) {
            free(nets);
            return NULL;
        }
    }
    return nets;
}

/* [number] */
static uint16_t *numbers_of(PyObject *list, unsigned *count)
{
    Py_ssize_t many = PyList_Size(list);
    uint16_t *numbers = many < 0 ? NULL : items(many, sizeof *numbers);
    *count = 0;
    for (; numbers && *count < many; ++*count) {
        unsigned long number = PyLong_AsUnsignedLong(PyList_GetItem(list, *count));
        if (number > UINT16_MAX) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a number of more than 16 bits");
            free(numbers);
            return NULL;
        }
        numbers[*count] = (uint16_t)number;
    }
    return numbers;
}

/* (protocol or -1, negated, source, mask, negated, destination, mask, negated, source ports: asked, low, high, negated,
 * destination ports: the same) */
static bool fill_match(struct flow_match *match, PyObject *item)
{
    const char *source, *source_mask, *destination, *destination_mask;
    Py_ssize_t sizes[4];
    int not_protocol, not_source, not_destination, asked[2], not_ports[2];
    unsigned short low[2], high[2];
    if (!PyArg_ParseTuple(item, "ipy#y#py#y#ppHHppHHp", &match->protocol, &not_protocol, &source, &sizes[0], &source_mask,
                          &sizes[1], &not_source, &destination, &sizes[2], &destination_mask, &sizes[3], &not_destination,
                          &asked[0], &low[0], &high[0], &not_ports[0], &asked[1], &low[1], &high[1], &not_ports[1]) ||
        !fill_net(&match->source, source, sizes[0], source_mask, sizes[1]) ||
        !fill_net(&match->destination, destination, sizes[2], destination_mask, sizes[3]))
        return false;
    match->negated = not_protocol;
    match->source.negated = not_source;
    match->destination.negated = not_destination;
    match->source_ports = (struct ports){asked[0], not_ports[0], low[0], high[0]};
    match->destination_ports = (struct ports){asked[1], not_ports[1], low[1], high[1]};
    return true;
}

/* (tunnel or TO_PYTHON, [match], [network] or None) */
static bool fill_rule(struct rule *rule, PyObject *item)
{
    long long tunnel;
    PyObject *matches, *nets;
    if (!PyArg_ParseTuple(item, "LO!O", &tunnel, &PyList_Type, &matches, &nets))
        return false;
    rule->tunnel = tunnel;
    rule->to_nets = nets != Py_None;
    Py_ssize_t count = PyList_Size(matches);
    if (!(rule->matches = items(count, sizeof *rule->matches)) ||
        (rule->to_nets && !(rule->nets = nets_of(nets, &rule->net_count))))
        return false;
    for (; rule->match_count < count; rule->match_count++)
        if (!fill_match(&rule->matches[rule->match_count], PyList_GetItem(matches, rule->match_count)))
            return false;
    return true;
}

PyObject *set_book(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int version;
    int asks;
    long long otherwise;
    PyObject *rules, *nobody;
    if (!core || !PyArg_ParseTuple(arguments, "IpLO!O!", &version, &asks, &otherwise, &PyList_Type, &rules, &PyList_Type,
                                   &nobody))
        return NULL;
    struct book *book = items(1, sizeof *book);
    if (!book)
        return NULL;
    Py_ssize_t count = PyList_Size(rules);
    book->version = version;
    book->asks = asks;
    book->otherwise = otherwise;
    bool good = (book->rules = items(count, sizeof *book->rules)) &&
                (book->nobody.rules = numbers_of(nobody, &book->nobody.count));
    for (; good && book->count < count; book->count++) /* one that fails is counted: what there is of it is freed, too */
        good = fill_rule(&book->rules[book->count], PyList_GetItem(rules, book->count));
    retire(core, good ? atomic_exchange(&core->births->book, book) : book, book_free);
    reap(core);
    return good ? Py_NewRef(Py_None) : NULL;
}

PyObject *set_guard(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned short signal_port;
    PyObject *inner, *ports, *refused, *allowed;
    if (!core || !PyArg_ParseTuple(arguments, "HO!O!O!O!", &signal_port, &PyList_Type, &inner, &PyList_Type, &ports,
                                   &PyList_Type, &refused, &PyList_Type, &allowed))
        return NULL;
    struct guard *guard = items(1, sizeof *guard);
    if (!guard)
        return NULL;
    guard->signal_port = signal_port;
    bool good = (guard->inner = nets_of(inner, &guard->inner_count)) &&
                (guard->ports = numbers_of(ports, &guard->port_count)) &&
                (guard->refused = nets_of(refused, &guard->refused_count)) &&
                (guard->allowed = nets_of(allowed, &guard->allowed_count));
    retire(core, good ? atomic_exchange(&core->births->guard, guard) : guard, guard_free);
    return good ? Py_NewRef(Py_None) : NULL;
}

PyObject *set_holder(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    long long association;
    const char *four, *six;
    Py_ssize_t four_size, six_size;
    if (!core || !PyArg_ParseTuple(arguments, "Ly#y#", &association, &four, &four_size, &six, &six_size))
        return NULL;
    if ((four_size && four_size != 4) || (six_size && six_size != 16))
        return PyErr_Format(PyExc_ValueError, "addresses of %zd and %zd bytes", four_size, six_size);
    if (!holder_set(core, association, four_size ? (const uint8_t *)four : NULL, six_size ? (const uint8_t *)six : NULL))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyObject *drop_holder(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    long long association;
    if (!core || !PyArg_ParseTuple(arguments, "L", &association))
        return NULL;
    holder_drop(core, association);
    Py_RETURN_NONE;
}

PyObject *core_may_begin(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    long long association;
    double now;
    if (!core || !PyArg_ParseTuple(arguments, "Ld", &association, &now))
        return NULL;
    struct holder *holder = holder_find(core, association);
    return PyBool_FromLong(holder && may_begin(holder, to_ns(now)));
}

/* Programs. */

PyObject *set_owners(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    int fd;
    if (!core || !PyArg_ParseTuple(arguments, "i", &fd))
        return NULL;
    atomic_store(&core->births->owners, fd);
    Py_BEGIN_ALLOW_THREADS
    quiesce(core); /* whoever has read the one before has done with it: it may be closed now */
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyObject *know(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    const char *user;
    Py_ssize_t size;
    unsigned int version;
    PyObject *chain;
    if (!core || !PyArg_ParseTuple(arguments, "y#IO!", &user, &size, &version, &PyList_Type, &chain))
        return NULL;
    if (size != USER_BYTES)
        return PyErr_Format(PyExc_ValueError, "a user record of %zd bytes", size);
    struct known *known = items(1, sizeof *known);
    if (!known || !(known->chain.rules = numbers_of(chain, &known->chain.count))) {
        known_free(known);
        return NULL;
    }
    known->version = version;
    memcpy(known->user, user, USER_BYTES);
    know_user(core, known);
    Py_RETURN_NONE;
}

/* Questions, for tests. */

PyObject *place_of(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    const char *data;
    Py_ssize_t size;
    PyObject *list;
    struct flow_key key;
    struct chain chain = {0};
    int which = -1;
    if (!core || !PyArg_ParseTuple(arguments, "y#O!", &data, &size, &PyList_Type, &list) || !key_of(&key, data, size))
        return NULL;
    struct book *book = atomic_load(&core->births->book);
    if (!book)
        return PyErr_Format(PyExc_ValueError, "there are no rules");
    if (!(chain.rules = numbers_of(list, &chain.count)))
        return NULL;
    int64_t tunnel = book_place(book, &chain, &key, &which);
    free(chain.rules);
    return Py_BuildValue("(Li)", (long long)tunnel, which);
}

PyObject *passes(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    const char *data;
    Py_ssize_t size;
    struct flow_key key;
    if (!core || !PyArg_ParseTuple(arguments, "y#", &data, &size) || !key_of(&key, data, size))
        return NULL;
    struct guard *guard = atomic_load(&core->births->guard);
    return PyBool_FromLong(guard && guard_passes(guard, &key));
}

/* What has begun. */

static PyObject *birth_tuple(PyObject *self, struct core *core, PyTypeObject *type, const struct birth *birth)
{
    struct row *row = birth->row;
    PyObject *object = adopt_row(self, type, row);
    if (!object) { /* no memory: nobody will ever have it */
        row_unlink(core, row);
        retire(core, row, free);
        return NULL;
    }
    return Py_BuildValue("(Ny#LIdy#)", object, (const char *)row->key.bytes, (Py_ssize_t)row->key.size,
                         (long long)row->association, birth->version, to_seconds(birth->at),
                         (const char *)birth->user, (Py_ssize_t)USER_BYTES);
}

/* births(most, Row): [(row, key, association, version of the book, when, user)], the oldest first. */
PyObject *births(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int most;
    PyObject *type;
    if (!core || !PyArg_ParseTuple(arguments, "IO!", &most, &PyType_Type, &type))
        return NULL;
    PyObject *list = PyList_New(0);
    for (struct birth *birth; list && most && (birth = births_take(core)); free(birth)) {
        if (!row_adopt(core, birth->row)) { /* one of Python's own has its place */
            retire(core, birth->row, free);
            continue;
        }
        PyObject *item = birth_tuple(self, core, (PyTypeObject *)type, birth);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
        most--;
    }
    return list;
}
