/* Keys and counters of tunnels, and single datagrams that Python seals or opens by them. One thread of Python's calls this. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

static bool good_key(int algorithm, Py_ssize_t key, Py_ssize_t iv)
{
    if ((algorithm == AES_256_GCM || algorithm == CHACHA20_POLY1305) && key == KEY_BYTES && iv == IV_BYTES)
        return true;
    PyErr_SetString(PyExc_ValueError, "a key of 32 and an iv of 12 bytes are wanted, for a cipher that is known");
    return false;
}

PyObject *keys_set_send_key(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id, epoch, word;
    int algorithm;
    const char *key, *iv;
    Py_ssize_t key_size, iv_size;
    if (!core || !PyArg_ParseTuple(arguments, "IIIiy#y#", &id, &epoch, &word, &algorithm, &key, &key_size, &iv, &iv_size) ||
        !good_key(algorithm, key_size, iv_size))
        return NULL;
    struct tunnel *tunnel = tunnel_of(core, id);
    if (!tunnel)
        return NULL;
    struct send_key *now = atomic_load(&tunnel->send), *next;
    if (now && now->epoch >= epoch)
        return PyErr_Format(PyExc_ValueError, "epoch %u cannot follow %u", epoch, now->epoch);
    if (!(next = calloc(1, sizeof *next)))
        return PyErr_NoMemory();
    aead_init(&next->aead, (enum algorithm)algorithm, (const uint8_t *)key, (const uint8_t *)iv);
    next->epoch = epoch;
    next->first_word = word;
    retire(core, atomic_exchange(&tunnel->send, next), send_key_free);
    atomic_store(&tunnel->asked_step, false);
    reap(core);
    Py_RETURN_NONE;
}

PyObject *keys_counter(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id;
    if (!core || !PyArg_ParseTuple(arguments, "I", &id))
        return NULL;
    struct tunnel *tunnel = tunnel_find(core, id);
    struct send_key *key = tunnel ? atomic_load(&tunnel->send) : NULL;
    return PyLong_FromUnsignedLongLong(key ? atomic_load(&key->counter) : 0);
}

/* Leave counters out: those below `counter` are never used. */
PyObject *keys_skip(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id;
    unsigned long long counter;
    if (!core || !PyArg_ParseTuple(arguments, "IK", &id, &counter))
        return NULL;
    struct tunnel *tunnel = tunnel_find(core, id);
    struct send_key *key = tunnel ? atomic_load(&tunnel->send) : NULL;
    uint64_t now = key ? atomic_load(&key->counter) : UINT64_MAX;
    while (now < counter && !atomic_compare_exchange_weak(&key->counter, &now, counter))
        ;
    Py_RETURN_NONE;
}

/* Python counts something of its own: until it says how much in all, probes of this tunnel go up. */
static void close_books(struct tunnel *tunnel)
{
    pthread_mutex_lock(&tunnel->lock);
    tunnel->books.good = false;
    pthread_mutex_unlock(&tunnel->lock);
}

/* Take what Python has counted by itself: probes can be answered from now on. */
PyObject *keys_set_books(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id, epoch, counter;
    unsigned long long in, out;
    if (!core || !PyArg_ParseTuple(arguments, "IIIKK", &id, &epoch, &counter, &in, &out))
        return NULL;
    struct tunnel *tunnel = tunnel_find(core, id);
    if (tunnel) {
        pthread_mutex_lock(&tunnel->lock);
        tunnel->books = (struct books){true, (uint64_t)epoch << 32 | counter, in, out};
        pthread_mutex_unlock(&tunnel->lock);
    }
    Py_RETURN_NONE;
}

/* Seal one packet or frame of Python's, with a counter that is nobody else's. */
PyObject *keys_seal(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id, hint;
    const char *text;
    Py_ssize_t size;
    if (!core || !PyArg_ParseTuple(arguments, "Iy#I", &id, &text, &size, &hint))
        return NULL;
    struct tunnel *tunnel = tunnel_find(core, id);
    struct send_key *key = tunnel ? atomic_load(&tunnel->send) : NULL;
    if (!key || size > MAX_PACKET)
        return PyErr_Format(PyExc_ValueError, "tunnel %u cannot seal %zd bytes", id, size);
    close_books(tunnel);
    uint64_t counter = atomic_fetch_add(&key->counter, 1);
    if (counter > UINT32_MAX)
        return PyErr_Format(PyExc_OverflowError, "the packet counter of an epoch has run out");
    PyObject *datagram = PyBytes_FromStringAndSize(NULL, size + OVERHEAD_BYTES);
    if (!datagram)
        return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AsString(datagram);
    write32(at, key->first_word | (hint & (CONTINUES | PARTIAL)) << 24);
    write32(at + 4, (uint32_t)counter);
    if (aead_seal(&key->aead, 0, counter, at, (const uint8_t *)text, (size_t)size, at + HEADER_BYTES))
        return datagram;
    Py_DECREF(datagram);
    return PyErr_NoMemory();
}

static struct receive_key *held_key(const struct receive_keys *keys, unsigned epoch, const char *key)
{
    for (unsigned i = 0; keys && i < keys->count; i++)
        if (keys->keys[i]->epoch == epoch && !memcmp(keys->keys[i]->aead.key, key, KEY_BYTES))
            return keys->keys[i];
    return NULL;
}

static bool add_key(struct receive_keys *next, const struct receive_keys *had, PyObject *item)
{
    unsigned int epoch;
    int algorithm;
    long long seen;
    const char *key, *iv;
    Py_ssize_t key_size, iv_size;
    if (!PyArg_ParseTuple(item, "Iiy#y#L", &epoch, &algorithm, &key, &key_size, &iv, &iv_size, &seen) ||
        !good_key(algorithm, key_size, iv_size))
        return false;
    if (held_key(next, epoch, key))
        return true; /* twice in the list: it would be given back twice */
    struct receive_key *made_key = held_key(had, epoch, key);
    if (!made_key && (made_key = calloc(1, sizeof *made_key))) {
        receive_key_init(made_key, (enum algorithm)algorithm, (const uint8_t *)key, (const uint8_t *)iv, epoch, seen);
    }
    if (!made_key) {
        PyErr_NoMemory();
        return false;
    }
    next->keys[next->count++] = made_key;
    return true;
}

static bool has_key(const struct receive_keys *keys, const struct receive_key *key)
{
    for (unsigned i = 0; keys && i < keys->count; i++)
        if (keys->keys[i] == key)
            return true;
    return false;
}

PyObject *keys_set_receive_keys(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id, current;
    PyObject *list;
    if (!core || !PyArg_ParseTuple(arguments, "IIO", &id, &current, &list))
        return NULL;
    Py_ssize_t count = PyList_Size(list);
    struct tunnel *tunnel = count < 0 ? NULL : tunnel_of(core, id);
    if (!tunnel)
        return NULL;
    if (count > RECEIVE_KEYS)
        return PyErr_Format(PyExc_ValueError, "%zd receive keys", count);
    struct receive_keys *had = atomic_load(&tunnel->receive), *next = calloc(1, sizeof *next);
    if (!next)
        return PyErr_NoMemory();
    bool good = true;
    for (Py_ssize_t i = 0; i < count && good; i++)
        good = add_key(next, had, PyList_GetItem(list, i));
    struct receive_keys *old = good ? atomic_exchange(&tunnel->receive, next) : next;
    const struct receive_keys *stay = good ? next : had;
    for (unsigned i = 0; old && i < old->count; i++)
        if (!has_key(stay, old->keys[i]))
            retire(core, old->keys[i], receive_key_free);
    retire(core, old, free);
    if (!good)
        return NULL;
    uint32_t known = atomic_load(&tunnel->current);
    while (current > known && !atomic_compare_exchange_weak(&tunnel->current, &known, current))
        ;
    reap(core);
    Py_RETURN_NONE;
}

int64_t top_of(struct tunnel *tunnel, uint32_t epoch)
{
    struct receive_keys *keys = atomic_load(&tunnel->receive);
    int64_t top = -1;
    pthread_mutex_lock(&tunnel->lock);
    for (unsigned i = 0; keys && i < keys->count; i++)
        if (keys->keys[i]->epoch == epoch && atomic_load(&keys->keys[i]->window.top) > top)
            top = atomic_load(&keys->keys[i]->window.top);
    pthread_mutex_unlock(&tunnel->lock);
    return top;
}

PyObject *keys_top(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id, epoch;
    if (!core || !PyArg_ParseTuple(arguments, "II", &id, &epoch))
        return NULL;
    struct tunnel *tunnel = tunnel_find(core, id);
    return PyLong_FromLongLong(tunnel ? top_of(tunnel, epoch) : -1);
}

/* The window of one epoch: (top, a number whose bit d says whether top - d was seen), as packet/seal.py's Window. */
PyObject *keys_window(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id, epoch;
    uint8_t seen[REPLAY_WINDOW / 8] = {0};
    long long top = -1;
    if (!core || !PyArg_ParseTuple(arguments, "II", &id, &epoch))
        return NULL;
    struct tunnel *tunnel = tunnel_find(core, id);
    struct receive_keys *keys = tunnel ? atomic_load(&tunnel->receive) : NULL;
    for (unsigned i = 0; keys && i < keys->count; i++) {
        struct window *window = &keys->keys[i]->window;
        if (keys->keys[i]->epoch != epoch)
            continue;
        pthread_mutex_lock(&tunnel->lock);
        top = atomic_load(&window->top);
        for (long long age = 0; age < REPLAY_WINDOW; age++)
            if (top >= 0 && (top - age < 0 ? window->floor >= 0 : !window_fresh(window, (uint32_t)(top - age))))
                seen[age / 8] |= (uint8_t)(1 << age % 8);
        pthread_mutex_unlock(&tunnel->lock);
    }
    return Py_BuildValue("(Ly#)", top, (const char *)seen, (Py_ssize_t)sizeof seen);
}

/* Open one datagram of Python's: (text, epoch, counter, hint, highest), or the reason why not. */
PyObject *keys_open(PyObject *self, PyObject *arguments)
{
    struct core *core = core_of(self);
    unsigned int id;
    const char *datagram;
    Py_ssize_t size;
    struct found found;
    struct opened opened = {0};
    if (!core || !PyArg_ParseTuple(arguments, "Iy#", &id, &datagram, &size))
        return NULL;
    struct tunnel *tunnel = tunnel_find(core, id);
    if (size < OVERHEAD_BYTES + 1)
        return PyUnicode_FromString("short");
    if (((uint8_t)datagram[0] & KIND_MASK) != SEALED || size > 65536)
        return PyUnicode_FromString("version");
    uint8_t *copy = malloc(2 * (size_t)size);
    if (!copy)
        return PyErr_NoMemory();
    memcpy(copy, datagram, (size_t)size);
    enum opening result = tunnel ? tunnel_open(tunnel, 0, copy, (size_t)size, copy + size, &found) : OPENED_NO_KEY;
    if (result == OPENED_NEW && !tunnel_mark(tunnel, &found, &opened))
        result = OPENED_REPLAY;
    if (result == OPENED_NEW)
        close_books(tunnel);
    PyObject *answer =
        result == OPENED_NEW
            ? Py_BuildValue("(y#IIiO)", (char *)copy + HEADER_BYTES, size - OVERHEAD_BYTES, opened.epoch, opened.counter,
                            opened.hint, opened.highest ? Py_True : Py_False)
            : PyUnicode_FromString(result == OPENED_REPLAY ? "replayed" : "forged");
    OPENSSL_cleanse(copy, 2 * (size_t)size);
    free(copy);
    return answer;
}
