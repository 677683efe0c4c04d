/* The loops without descriptors, for tests and benchmarks: what would be sent and written comes back.
 * One thread, Python's; never together with threads that run. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

struct drive {
    struct sender sender;
    struct receiver receiver;
    struct finds finds;
    uint8_t *scratch;
    uint8_t *buffers[BANKS];
    unsigned bank;
    PyObject *out;     /* the list that is being filled */
    PyObject *answers; /* what was answered since it was asked for, or NULL */
};

void drive_free(struct drive *drive)
{
    if (!drive)
        return;
    sender_clear(&drive->sender);
    Py_XDECREF(drive->answers);
    free(drive->finds.at);
    free(drive->scratch);
    for (unsigned i = 0; i < BANKS; i++)
        free(drive->buffers[i]);
    free(drive);
}

static void put_in(PyObject *list, PyObject *item)
{
    if (item && list)
        PyList_Append(list, item); /* no memory: the exception is found at the end */
    Py_XDECREF(item);
}

static void put(struct drive *drive, PyObject *item) { put_in(drive->out, item); }

static void keep_message(struct sender *sender, struct tunnel *tunnel, struct path *path, const uint8_t *data,
                         size_t size, unsigned width, unsigned count, unsigned ecn)
{
    put(sender->context,
        Py_BuildValue("(Iy#III)", tunnel->id, (const char *)data, (Py_ssize_t)size, width, count, ecn));
}

static void keep_write(struct receiver *receiver, unsigned queue, const struct iovec *parts, int count)
{
    uint8_t whole[VNET_BYTES + MAX_PACKET + 1];
    size_t size = 0;
    for (int i = 0; i < count && size + parts[i].iov_len <= sizeof whole; i++) {
        memcpy(whole + size, parts[i].iov_base, parts[i].iov_len);
        size += parts[i].iov_len;
    }
    put(receiver->context, PyBytes_FromStringAndSize((const char *)whole, (Py_ssize_t)size));
}

static void keep_answer(struct receiver *receiver, struct tunnel *tunnel, struct path *path, const uint8_t *data,
                        size_t size)
{
    struct drive *drive = receiver->context;
    if (drive->answers || (drive->answers = PyList_New(0)))
        put_in(drive->answers, Py_BuildValue("(Iy#)", tunnel->id, (const char *)data, (Py_ssize_t)size));
}

static struct drive *drive_of(PyObject *object)
{
    struct core_object *self = (struct core_object *)object;
    struct core *core = core_of(object);
    struct drive *drive = self->drive;
    if (!core || drive)
        return core ? drive : NULL;
    drive = calloc(1, sizeof *drive);
    if (drive && sender_init(&drive->sender, core, 0, keep_message, drive) && (drive->scratch = malloc(65536)) &&
        (drive->buffers[0] = malloc(65536)) && (drive->buffers[1] = malloc(65536))) {
        receiver_init(&drive->receiver, core, keep_write, drive);
        drive->receiver.answer = keep_answer;
        return self->drive = drive;
    }
    drive_free(drive);
    PyErr_NoMemory();
    return NULL;
}

static PyObject *finished(struct drive *drive)
{
    PyObject *out = drive->out;
    drive->out = NULL;
    if (!PyErr_Occurred())
        return out;
    Py_XDECREF(out);
    return NULL;
}

PyObject *drive_tun(PyObject *self, PyObject *arguments)
{
    struct drive *drive = drive_of(self);
    const char *data;
    Py_ssize_t size;
    double now;
    if (!drive || !PyArg_ParseTuple(arguments, "z#d", &data, &size, &now) || !(drive->out = PyList_New(0)))
        return NULL;
    if (!data) {
        sender_flush(&drive->sender, to_ns(now));
    } else if (size <= INPUT_BYTES) {
        memcpy(drive->sender.input, data, (size_t)size);
        sender_take(&drive->sender, (size_t)size, to_ns(now));
    } else {
        PyErr_SetString(PyExc_ValueError, "more than one read can give");
    }
    return finished(drive);
}

PyObject *drive_answers(PyObject *self, PyObject *unused)
{
    struct drive *drive = drive_of(self);
    PyObject *answers = drive ? drive->answers : NULL;
    if (!drive)
        return NULL;
    drive->answers = NULL;
    return answers ? answers : PyList_New(0);
}

PyObject *drive_udp(PyObject *self, PyObject *arguments)
{
    struct drive *drive = drive_of(self);
    const char *data, *address, *via;
    Py_ssize_t size, address_size, via_size;
    unsigned int segment, port, ecn;
    int fd;
    double now;
    if (!drive || !PyArg_ParseTuple(arguments, "iz#Iy#Iy#Id", &fd, &data, &size, &segment, &address, &address_size,
                                    &port, &via, &via_size, &ecn, &now))
        return NULL;
    struct udp_socket *socket = find_socket(drive->receiver.core, fd);
    if (data && (!socket || !size || size > 65536 || (address_size != 4 && address_size != 16) || via_size > VIA_BYTES))
        return PyErr_Format(PyExc_ValueError, "no such batch of datagrams can come");
    if (!(drive->out = PyList_New(0)))
        return NULL;
    if (!data) {
        receiver_flush(&drive->receiver);
        return finished(drive);
    }
    struct path from = {0};
    struct batch batch = {.data = drive->buffers[drive->bank], .size = (size_t)size, .segment = segment ? segment : (size_t)size,
                          .socket = socket, .ecn = (uint8_t)ecn, .bank = drive->bank, .via_bytes = (uint8_t)via_size};
    fill_address(&from, address, address_size, port, 0);
    batch.from = from.to;
    batch.from_bytes = from.to_bytes;
    memcpy(batch.via, via, (size_t)via_size);
    memcpy(batch.data, data, (size_t)size);
    drive->finds.count = 0;
    if (open_batch(drive->receiver.core, &batch, 0, drive->scratch, &drive->finds))
        receiver_take(&drive->receiver, &batch, drive->finds.at, to_ns(now));
    receiver_keep_bank(&drive->receiver, drive->bank);
    drive->bank = (drive->bank + 1) % BANKS;
    return finished(drive);
}
