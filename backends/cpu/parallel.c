/* Threads: OpenMP, whose threads oneDNN uses as well; or, built with QE_CPU_PTHREADS, a plain pool, which
 * ThreadSanitizer understands. */
#include "backends/cpu/parallel.h"

#include "core/base/alloc.h"

enum { SMALL_WORK = 32768 }; /* elements below which waking a thread costs more than it gives */

static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

#ifndef QE_CPU_PTHREADS

#include <omp.h>

void cpu_parallel(const cpu_device *device, int64_t tasks, int64_t chunk, int64_t work, cpu_task task, void *context) {
  if (device->threads == 1 || tasks <= chunk || work < SMALL_WORK) {
    task(context, 0, tasks, 0);
    return;
  }
  int64_t chunks = (tasks + chunk - 1) / chunk;
#pragma omp parallel for num_threads(device->threads) schedule(dynamic, 1)
  for (int64_t i = 0; i < chunks; i++) task(context, i * chunk, smaller(tasks, (i + 1) * chunk), omp_get_thread_num());
}

qe_status cpu_pool_open(int threads, cpu_pool **pool) {
  (void)threads;
  *pool = NULL;
  return QE_OK;
}

void cpu_pool_close(cpu_pool *pool) {
  (void)pool;
}

int cpu_threads_enter(int threads) {
  int before = omp_get_max_threads();
  if (before != threads) omp_set_num_threads(threads);
  return before;
}

void cpu_threads_leave(int before) {
  if (before != omp_get_max_threads()) omp_set_num_threads(before);
}

#else

#include <pthread.h>
#include <stdlib.h>

struct cpu_pool {
  pthread_mutex_t one_at_a_time; /* held for a whole job */
  pthread_mutex_t lock;          /* of all below */
  pthread_cond_t start, finished;
  pthread_t thread[CPU_MAX_THREADS];
  int threads; /* beside the caller's */
  int64_t job; /* number of the newest job */
  int working;
  bool closing;
  int64_t next, tasks, chunk;
  cpu_task task;
  void *context;
};

typedef struct worker_start {
  cpu_pool *pool;
  int thread;
} worker_start;

static void take_chunks(cpu_pool *pool, int thread) {
  pthread_mutex_lock(&pool->lock);
  while (pool->next < pool->tasks) {
    int64_t first = pool->next, last = smaller(pool->tasks, first + pool->chunk);
    pool->next = last;
    pthread_mutex_unlock(&pool->lock);
    pool->task(pool->context, first, last, thread);
    pthread_mutex_lock(&pool->lock);
  }
  pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument) {
  worker_start start = *(worker_start *)argument;
  qe_free(argument);
  cpu_pool *pool = start.pool;
  int64_t done = 0;
  pthread_mutex_lock(&pool->lock);
  for (;;) {
    while (pool->job == done && !pool->closing) pthread_cond_wait(&pool->start, &pool->lock);
    if (pool->closing) break;
    done = pool->job;
    pthread_mutex_unlock(&pool->lock);
    take_chunks(pool, start.thread);
    pthread_mutex_lock(&pool->lock);
    if (--pool->working == 0) pthread_cond_signal(&pool->finished);
  }
  pthread_mutex_unlock(&pool->lock);
  return NULL;
}

void cpu_parallel(const cpu_device *device, int64_t tasks, int64_t chunk, int64_t work_size, cpu_task task,
                  void *context) {
  cpu_pool *pool = device->pool;
  if (pool->threads == 0 || tasks <= chunk || work_size < SMALL_WORK) {
    task(context, 0, tasks, 0);
    return;
  }
  pthread_mutex_lock(&pool->one_at_a_time);
  pthread_mutex_lock(&pool->lock);
  pool->next = 0;
  pool->tasks = tasks;
  pool->chunk = chunk;
  pool->task = task;
  pool->context = context;
  pool->working = pool->threads;
  pool->job++;
  pthread_cond_broadcast(&pool->start);
  pthread_mutex_unlock(&pool->lock);
  take_chunks(pool, 0);
  pthread_mutex_lock(&pool->lock);
  while (pool->working > 0) pthread_cond_wait(&pool->finished, &pool->lock);
  pthread_mutex_unlock(&pool->lock);
  pthread_mutex_unlock(&pool->one_at_a_time);
}

static qe_status start_worker(cpu_pool *pool) {
  worker_start *start = QE_NEW(worker_start);
  if (!start) return QE_NO_MEMORY;
  *start = (worker_start){pool, pool->threads + 1};
  if (pthread_create(&pool->thread[pool->threads], NULL, work, start) != 0) {
    qe_free(start);
    return qe_fail(QE_DEVICE, "cannot start thread %d: ask for fewer threads", pool->threads + 1);
  }
  pool->threads++;
  return QE_OK;
}

qe_status cpu_pool_open(int threads, cpu_pool **out) {
  cpu_pool *pool = QE_NEW(cpu_pool);
  if (!pool) return QE_NO_MEMORY;
  pthread_mutex_init(&pool->one_at_a_time, NULL);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->start, NULL);
  pthread_cond_init(&pool->finished, NULL);
  qe_status status = QE_OK;
  while (status == QE_OK && pool->threads < threads - 1) status = start_worker(pool);
  if (status == QE_OK)
    *out = pool;
  else
    cpu_pool_close(pool);
  return status;
}

void cpu_pool_close(cpu_pool *pool) {
  if (!pool) return;
  pthread_mutex_lock(&pool->lock);
  pool->closing = true;
  pthread_cond_broadcast(&pool->start);
  pthread_mutex_unlock(&pool->lock);
  for (int i = 0; i < pool->threads; i++) pthread_join(pool->thread[i], NULL);
  pthread_cond_destroy(&pool->finished);
  pthread_cond_destroy(&pool->start);
  pthread_mutex_destroy(&pool->lock);
  pthread_mutex_destroy(&pool->one_at_a_time);
  qe_free(pool);
}

/* oneDNN brings OpenMP all the same; one thread keeps it from competing with the pool. */
extern int omp_get_max_threads(void);
extern void omp_set_num_threads(int threads);

int cpu_threads_enter(int threads) {
  (void)threads;
  int before = omp_get_max_threads();
  omp_set_num_threads(1);
  return before;
}

void cpu_threads_leave(int before) {
  omp_set_num_threads(before);
}

#endif
