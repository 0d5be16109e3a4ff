/* Threads of the cpu backend. */
#ifndef QE_BACKENDS_CPU_PARALLEL_H
#define QE_BACKENDS_CPU_PARALLEL_H

#include "backends/cpu/cpu.h"

/* Work on tasks first...last-1; `thread` is in 0...device->threads-1 and no two calls at a time share it. */
typedef void (*cpu_task)(void *context, int64_t first, int64_t last, int thread);

/* Run tasks 0...tasks-1, `chunk` at a time, on the device's threads, and wait. Which thread gets a task is open, so a
 * result may depend on a task's number only. One thread, and no waking of others, when `work` (elements) is small. */
void cpu_parallel(const cpu_device *device, int64_t tasks, int64_t chunk, int64_t work, cpu_task task, void *context);

/* A build without OpenMP keeps threads of its own; nothing otherwise. */
QE_CHECKED qe_status cpu_pool_open(int threads, cpu_pool **pool);
void cpu_pool_close(cpu_pool *pool);

/* The calling thread's OpenMP thread count, which oneDNN reads when it makes and when it runs a primitive: set it to
 * `threads`, returning what it was, for cpu_threads_leave. */
int cpu_threads_enter(int threads);
void cpu_threads_leave(int before);

#endif
