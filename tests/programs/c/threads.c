/* POSIX threads: mutexes, condition variables, keys, once, cancellation, semaphores. */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

enum { THREADS = 8, ROUNDS = 5000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long counter;

static void *add(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return unused;
}

static void mutex_counts(void) {
    pthread_t t[THREADS];
    for (long i = 0; i < THREADS; i++)
        CHECK(pthread_create(&t[i], 0, add, (void *)i) == 0);
    for (long i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(t[i], &result) == 0);
        CHECK(result == (void *)i);
    }
    CHECK(counter == THREADS * ROUNDS);
}

static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;

static void *take_turns(void *arg) {
    for (int i = 0; i < 300; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 3 != (long)arg)
            pthread_cond_wait(&changed, &mutex);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
    }
    return 0;
}

static void condition_variables(void) {
    pthread_t t[3];
    for (long i = 0; i < 3; i++)
        CHECK(pthread_create(&t[i], 0, take_turns, (void *)i) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(t[i], 0) == 0);
    CHECK(turn == 900);
}

static void condition_times_out(void) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += 30000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&mutex);
    int error = pthread_cond_timedwait(&changed, &mutex, &end);
    pthread_mutex_unlock(&mutex);
    CHECK(error == ETIMEDOUT);
}

static pthread_key_t key;
static int destroyed;

static void destroy(void *value) { __atomic_add_fetch(&destroyed, (int)(long)value, __ATOMIC_SEQ_CST); }

static void *use_key(void *arg) {
    pthread_setspecific(key, arg);
    return pthread_getspecific(key) == arg ? 0 : arg;
}

static void keys_and_destructors(void) {
    CHECK(pthread_key_create(&key, destroy) == 0);
    pthread_t t[4];
    for (long i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], 0, use_key, (void *)(i + 1)) == 0);
    for (int i = 0; i < 4; i++) {
        void *result = &key;
        CHECK(pthread_join(t[i], &result) == 0 && result == 0);
    }
    CHECK(destroyed == 1 + 2 + 3 + 4);
}

static __thread int local = 7;

static void *touch_local(void *arg) {
    int seen = local;
    local = (int)(long)arg;
    return (void *)(long)seen;
}

static void thread_variables(void) {
    local = 1;
    for (long i = 0; i < 4; i++) {
        pthread_t t;
        void *seen;
        CHECK(pthread_create(&t, 0, touch_local, (void *)i) == 0 && pthread_join(t, &seen) == 0);
        CHECK((long)seen == 7);
    }
    CHECK(local == 1);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int times_run;

static void run_once(void) { times_run++; }

static void *call_once(void *unused) {
    pthread_once(&once, run_once);
    return unused;
}

static void once_only(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], 0, call_once, 0) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(t[i], 0) == 0);
    CHECK(times_run == 1);
}

static int cleaned;

static void clean(void *unused) {
    (void)unused;
    cleaned = 1;
}

static void *sleep_forever(void *unused) {
    pthread_cleanup_push(clean, 0);
    for (;;)
        pause();
    pthread_cleanup_pop(0);
    return unused;
}

static void cancellation(void) {
    pthread_t t;
    void *result;
    CHECK(pthread_create(&t, 0, sleep_forever, 0) == 0);
    CHECK(pthread_cancel(t) == 0);
    CHECK(pthread_join(t, &result) == 0);
    CHECK(result == PTHREAD_CANCELED && (cleaned == 1 || cleaned == 0));
    /* Cancelled once it sleeps for certain: cleaned up. */
    cleaned = 0;
    CHECK(pthread_create(&t, 0, sleep_forever, 0) == 0);
    struct timespec brief = {0, 20000000};
    nanosleep(&brief, 0);
    CHECK(pthread_cancel(t) == 0 && pthread_join(t, &result) == 0 && result == PTHREAD_CANCELED);
    CHECK(cleaned == 1);
}

static sem_t items;
static int consumed;

static void *consume(void *unused) {
    for (int i = 0; i < 1000; i++) {
        while (sem_wait(&items) != 0)
            ;
        __atomic_add_fetch(&consumed, 1, __ATOMIC_SEQ_CST);
    }
    return unused;
}

static void semaphores(void) {
    CHECK(sem_init(&items, 0, 0) == 0);
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&t[i], 0, consume, 0) == 0);
    for (int i = 0; i < 2000; i++)
        CHECK(sem_post(&items) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(t[i], 0) == 0);
    int left = -1;
    CHECK(consumed == 2000 && sem_getvalue(&items, &left) == 0 && left == 0);
}

static void read_write_locks(void) {
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    CHECK(pthread_rwlock_rdlock(&lock) == 0 && pthread_rwlock_rdlock(&lock) == 0);
    CHECK(pthread_rwlock_trywrlock(&lock) == EBUSY);
    CHECK(pthread_rwlock_unlock(&lock) == 0 && pthread_rwlock_unlock(&lock) == 0);
    CHECK(pthread_rwlock_wrlock(&lock) == 0 && pthread_rwlock_tryrdlock(&lock) == EBUSY);
    CHECK(pthread_rwlock_unlock(&lock) == 0);
}

int main(void) {
    CASE(mutex_counts);
    CASE(condition_variables);
    CASE(condition_times_out);
    CASE(keys_and_destructors);
    CASE(thread_variables);
    CASE(once_only);
    CASE(cancellation);
    CASE(semaphores);
    CASE(read_write_locks);
    return check_end();
}
