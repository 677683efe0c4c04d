/* What the files of the extension module share. Only they know Python. */
#ifndef SOJOURN_MODULE_H
#define SOJOURN_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core.h"

struct core_object {
    PyObject_HEAD
    struct core *core;
    struct drive *drive; /* module_drive.c */
};

struct row_object {
    PyObject_HEAD
    PyObject *owner; /* the Core, so that it outlives us */
    struct row *row;
};

extern PyType_Spec row_spec, core_spec;

/* module_bench.c */
PyObject *bench(PyObject *self, PyObject *arguments);

/* module_drive.c */
PyObject *drive_tun(PyObject *self, PyObject *arguments);
PyObject *drive_answers(PyObject *self, PyObject *unused);
PyObject *drive_udp(PyObject *self, PyObject *arguments);
void drive_free(struct drive *drive);

/* module_row.c */
PyObject *move_rows(PyObject *self, PyObject *arguments);
/* Fill in a flow key, or set an exception: it has another size. */
bool key_of(struct flow_key *key, const char *data, Py_ssize_t size);
PyObject *adopt_row(PyObject *owner, PyTypeObject *type, struct row *row);

/* module_keys.c */
PyObject *keys_set_send_key(PyObject *self, PyObject *arguments);
PyObject *keys_counter(PyObject *self, PyObject *arguments);
PyObject *keys_skip(PyObject *self, PyObject *arguments);
PyObject *keys_set_books(PyObject *self, PyObject *arguments);
PyObject *keys_seal(PyObject *self, PyObject *arguments);
PyObject *keys_set_receive_keys(PyObject *self, PyObject *arguments);
PyObject *keys_top(PyObject *self, PyObject *arguments);
PyObject *keys_window(PyObject *self, PyObject *arguments);
PyObject *keys_open(PyObject *self, PyObject *arguments);

/* module_told.c */
PyObject *told_take(PyObject *self, PyObject *arguments);
PyObject *told_done(PyObject *self, PyObject *unused);
PyObject *told_rest(PyObject *self, PyObject *unused);
PyObject *told_quiet(PyObject *self, PyObject *arguments);
PyObject *told_poll(PyObject *self, PyObject *arguments);
PyObject *told_activity(PyObject *self, PyObject *arguments);
PyObject *told_taken(PyObject *self, PyObject *arguments);
int64_t top_of(struct tunnel *tunnel, uint32_t epoch); /* the highest counter opened in it, -1 for none */
PyObject *told_counts(PyObject *self, PyObject *unused);

/* module_rules.c */
PyObject *set_book(PyObject *self, PyObject *arguments);
PyObject *set_guard(PyObject *self, PyObject *arguments);
PyObject *set_holder(PyObject *self, PyObject *arguments);
PyObject *drop_holder(PyObject *self, PyObject *arguments);
PyObject *core_may_begin(PyObject *self, PyObject *arguments);
PyObject *set_owners(PyObject *self, PyObject *arguments);
PyObject *know(PyObject *self, PyObject *arguments);
PyObject *place_of(PyObject *self, PyObject *arguments);
PyObject *passes(PyObject *self, PyObject *arguments);
PyObject *births(PyObject *self, PyObject *arguments);

/* module_core.c */
/* Return the core, or set an exception: it was closed. */
struct core *core_of(PyObject *self);
/* Return a tunnel, made now if it is not there, or set an exception. */
struct tunnel *tunnel_of(struct core *core, unsigned int id);
void fill_address(struct path *path, const char *address, Py_ssize_t size, unsigned port, unsigned scope);

static inline int64_t to_ns(double seconds) { return (int64_t)(seconds * 1e9); }
static inline double to_seconds(int64_t ns) { return (double)ns / 1e9; }

#endif
