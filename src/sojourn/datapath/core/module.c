/* The extension module sojourn.datapath._core: what Python sees of the C core. */
#include <Python.h>
#include <openssl/crypto.h>

static PyObject *libcrypto(PyObject *self, PyObject *unused)
{
    return PyUnicode_FromString(OpenSSL_version(OPENSSL_VERSION));
}

static PyMethodDef methods[] = {
    {"libcrypto", libcrypto, METH_NOARGS, "Return the name and version of the library that seals and opens."},
    {NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "sojourn.datapath._core", "The C core of the data path.", 0, methods, slots,
};

PyMODINIT_FUNC PyInit__core(void);

__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
