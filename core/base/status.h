/* Statuses: every call that can fail returns one; its message is written once, where the failure happened. */
#ifndef QE_BASE_STATUS_H
#define QE_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* One list makes the enum, the names and the texts. */
#define QE_STATUS_LIST(X)                                                                                              \
  X(OK, "done")                                                                                                        \
  X(NO_MEMORY, "out of memory")                                                                                        \
  X(USAGE, "bad usage or option")                                                                                      \
  X(SHAPE, "shapes or attributes do not fit")                                                                          \
  X(REFUSED, "no implementation takes this case")                                                                      \
  X(NOT_FOUND, "not found")                                                                                            \
  X(IO, "input/output error")                                                                                          \
  X(FORMAT, "damaged or foreign file")                                                                                 \
  X(DEVICE, "device or driver failed")                                                                                 \
  X(DIVERGED, "training diverged")                                                                                     \
  X(INTERRUPTED, "interrupted")

typedef enum qe_status {
#define X(id, text) QE_##id,
  QE_STATUS_LIST(X)
#undef X
} qe_status;

#define QE_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define QE_CHECKED __attribute__((warn_unused_result))

/* "NO_MEMORY" for QE_NO_MEMORY and so on; never NULL. */
const char *qe_status_name(qe_status status);
/* The general text of a status, for when no message was set; never NULL. */
const char *qe_status_text(qe_status status);

/* Store the message of this thread's newest failure and return `status`. Says what was asked, the limit, the cure. */
qe_status qe_fail(qe_status status, const char *format, ...) QE_PRINTF(2, 3);
/* Put "context: " before the message already stored (a caller's file or layer name) and return `status`. */
qe_status qe_fail_within(qe_status status, const char *format, ...) QE_PRINTF(2, 3);
/* The message of this thread's newest failure, "" when there was none. Valid until the next failure. */
const char *qe_message(void);
void qe_message_clear(void);

#ifdef __clang_analyzer__ /* does not look into status.c, and would take a failure for a possible QE_OK */
#define qe_fail(status, ...) ((void)(qe_fail)(status, __VA_ARGS__), (status))
#define qe_fail_within(status, ...) ((void)(qe_fail_within)(status, __VA_ARGS__), (status))
#endif

/* Return from the enclosing function with the status of `call` unless it is QE_OK. */
#define QE_TRY(call)                                                                                                   \
  do {                                                                                                                 \
    qe_status qe_try_status_ = (call);                                                                                 \
    if (qe_try_status_ != QE_OK) return qe_try_status_;                                                                \
  } while (0)

/* Go to the enclosing function's label `done` with variable `status` set, unless `call` is QE_OK. */
#define QE_TRY_DONE(call)                                                                                              \
  do {                                                                                                                 \
    status = (call);                                                                                                   \
    if (status != QE_OK) goto done;                                                                                    \
  } while (0)

#ifdef __cplusplus
}
#endif
#endif
