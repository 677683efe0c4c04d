/* The extension module sojourn.datapath._core: its types, and what is asked without one. */
#include "module.h"

#include <openssl/crypto.h>
#include <string.h>

static PyObject *libcrypto(PyObject *self, PyObject *unused)
{
    return PyUnicode_FromString(OpenSSL_version(OPENSSL_VERSION));
}

/* look(packet, inbound): (bytes of IP header, of all headers, protocol, TCP flags, ECN, flow key), or None. */
static PyObject *look_at(PyObject *self, PyObject *arguments)
{
    const char *packet;
    Py_ssize_t size;
    int inbound;
    struct view view;
    if (!PyArg_ParseTuple(arguments, "y#p", &packet, &size, &inbound))
        return NULL;
    if (!look((const uint8_t *)packet, (size_t)size, inbound, &view))
        Py_RETURN_NONE;
    return Py_BuildValue("(iiiiiy#)", view.at, view.head, view.protocol, view.flags, view.ecn,
                         (const char *)view.key.bytes, (Py_ssize_t)view.key.size);
}

static PyObject *sum_of(PyObject *self, PyObject *arguments)
{
    const char *data;
    Py_ssize_t size;
    unsigned int initial;
    if (!PyArg_ParseTuple(arguments, "y#I", &data, &size, &initial))
        return NULL;
    return PyLong_FromUnsignedLong(sum((const uint8_t *)data, (size_t)size, initial & 0xFFFF));
}

/* replay(seen, counters): for each counter None where it was seen before, else whether it is the highest so far. */
static PyObject *replay(PyObject *self, PyObject *arguments)
{
    long long seen;
    PyObject *counters;
    struct window window = {0};
    if (!PyArg_ParseTuple(arguments, "LO", &seen, &counters))
        return NULL;
    window_init(&window, seen);
    Py_ssize_t count = PyList_Size(counters);
    PyObject *results = count < 0 ? NULL : PyList_New(0);
    for (Py_ssize_t i = 0; results && i < count; i++) {
        uint32_t counter = (uint32_t)PyLong_AsUnsignedLong(PyList_GetItem(counters, i));
        bool highest = false, fresh = window_mark(&window, counter, &highest);
        if (PyErr_Occurred() || PyList_Append(results, !fresh ? Py_None : highest ? Py_True : Py_False) < 0)
            Py_CLEAR(results);
    }
    window_clear(&window);
    return results;
}

static PyObject *siphash_of(PyObject *self, PyObject *arguments)
{
    const char *data;
    Py_ssize_t size;
    unsigned long long key[2];
    if (!PyArg_ParseTuple(arguments, "KKy#", &key[0], &key[1], &data, &size))
        return NULL;
    const uint64_t words[2] = {key[0], key[1]};
    return PyLong_FromUnsignedLongLong(siphash(words, (const uint8_t *)data, (size_t)size));
}

static PyMethodDef functions[] = {
    {"libcrypto", libcrypto, METH_NOARGS, "Return the name and version of the library that seals and opens."},
    {"look", look_at, METH_VARARGS, "look(packet, inbound): what an ordinary packet is, None for any other."},
    {"bench", bench, METH_VARARGS, "bench(threads, seconds, aead, receiving): (bytes sealed, bytes written, writes, seconds, of processors)"},
    {"sum", sum_of, METH_VARARGS, "sum(data, initial): the folded one's complement sum."},
    {"siphash", siphash_of, METH_VARARGS, "siphash(k0, k1, data): SipHash-2-4."},
    {"replay", replay, METH_VARARGS, "replay(seen, counters): what a replay window says of each."},
    {NULL},
};

static int add_types(PyObject *module)
{
    PyType_Spec *specs[] = {&core_spec, &row_spec};
    for (unsigned i = 0; i < 2; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
        int bad = !type || PyModule_AddType(module, (PyTypeObject *)type) < 0;
        Py_XDECREF(type);
        if (bad)
            return -1;
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)add_types}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "sojourn.datapath._core", "The C core of the data path.", 0, functions, slots,
};

PyMODINIT_FUNC PyInit__core(void);

__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
