/* The standard I/O library on files and pipes, directories, temporary files, environment. */
#define _GNU_SOURCE
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char directory[64];

static void write_and_read_lines(void) {
    FILE *f = fopen("lines", "w");
    CHECK(f);
    for (int i = 0; i < 3000; i++)
        CHECK(fprintf(f, "%d %s %x %.3f\n", i, "text", i, i / 8.0) > 0);
    CHECK(fclose(f) == 0);
    f = fopen("lines", "r");
    CHECK(f);
    int n, hex, count = 0;
    char word[16];
    double value;
    while (fscanf(f, "%d %15s %x %lf", &n, word, &hex, &value) == 4) {
        CHECK(n == count && hex == count && value == count / 8.0 && strcmp(word, "text") == 0);
        count++;
    }
    CHECK(count == 3000 && feof(f) && !ferror(f));
    CHECK(fclose(f) == 0);
}

static void seek_and_update(void) {
    FILE *f = fopen("update", "w+");
    CHECK(f && fputs("0123456789", f) >= 0);
    CHECK(fseek(f, 3, SEEK_SET) == 0 && fgetc(f) == '3' && ftell(f) == 4);
    CHECK(fseek(f, -2, SEEK_END) == 0 && fputc('x', f) == 'x');
    rewind(f);
    char buf[16] = "";
    CHECK(fgets(buf, sizeof buf, f) && strcmp(buf, "01234567x9") == 0);
    CHECK(ungetc('q', f) == 'q' && fgetc(f) == 'q' && fgetc(f) == EOF);
    CHECK(fclose(f) == 0);
    f = fopen("update", "a");
    CHECK(f && fputs("end", f) >= 0 && fclose(f) == 0);
    struct stat st;
    CHECK(stat("update", &st) == 0 && st.st_size == 13);
}

static void binary_blocks(void) {
    static unsigned char block[100000], back[100000];
    for (unsigned i = 0; i < sizeof block; i++)
        block[i] = i * 7 >> 3;
    FILE *f = fopen("binary", "wb");
    CHECK(f && fwrite(block, 1, sizeof block, f) == sizeof block && fclose(f) == 0);
    f = fopen("binary", "rb");
    CHECK(f && fread(back, 10, 10000, f) == 10000 && fread(back, 1, 1, f) == 0 && feof(f));
    CHECK(memcmp(block + 1, back + 1, sizeof block - 1) == 0 && fclose(f) == 0);
}

static void errors_set_errno(void) {
    errno = 0;
    CHECK(!fopen("missing/file", "w") && errno == ENOENT);
    CHECK(!fopen(".", "w") && errno == EISDIR);
    FILE *f = fopen("update", "r");
    CHECK(f && fputc('x', f) == EOF && ferror(f));
    fclose(f);
    CHECK(strlen(strerror(ENOENT)) > 0);
}

static void buffering_modes(void) {
    FILE *f = fopen("buffered", "w");
    struct stat st;
    CHECK(f && setvbuf(f, 0, _IONBF, 0) == 0 && fputs("now", f) >= 0);
    CHECK(stat("buffered", &st) == 0 && st.st_size == 3);
    fclose(f);
    f = fopen("buffered", "w");
    static char room[4096];
    CHECK(f && setvbuf(f, room, _IOFBF, sizeof room) == 0 && fputs("later", f) >= 0);
    CHECK(stat("buffered", &st) == 0 && st.st_size == 0 && fflush(f) == 0);
    CHECK(stat("buffered", &st) == 0 && st.st_size == 5);
    fclose(f);
}

static void temporary_files(void) {
    char name[] = "temporary-XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0 && unlink(name) == 0);
    FILE *f = tmpfile();
    CHECK(f && fputs("gone soon", f) >= 0 && fclose(f) == 0);
    char path[] = "directory-XXXXXX";
    CHECK(mkdtemp(path) && rmdir(path) == 0);
}

static void directories(void) {
    CHECK(mkdir("many", 0755) == 0 && chdir("many") == 0);
    char name[32];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "entry-%d", i);
        CHECK(mknod(name, S_IFREG | 0644, 0) == 0);
    }
    DIR *d = opendir(".");
    CHECK(d);
    int count = 0;
    for (struct dirent *e; (e = readdir(d));)
        count += strncmp(e->d_name, "entry-", 6) == 0 && e->d_type == DT_REG;
    CHECK(count == 200);
    rewinddir(d);
    CHECK(readdir(d) && closedir(d) == 0);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "entry-%d", i);
        CHECK(unlink(name) == 0);
    }
    CHECK(chdir("..") == 0 && rmdir("many") == 0);
}

static void streams_on_pipes(void) {
    int fds[2];
    CHECK(pipe(fds) == 0);
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        FILE *out = fdopen(fds[1], "w");
        for (int i = 0; i < 20000; i++)
            fprintf(out, "line %d\n", i);
        _exit(fclose(out) != 0);
    }
    close(fds[1]);
    FILE *in = fdopen(fds[0], "r");
    char *line = 0;
    size_t room = 0;
    int count = 0;
    while (getline(&line, &room, in) > 0) {
        CHECK(atoi(line + 5) == count);
        count++;
    }
    free(line);
    fclose(in);
    int status;
    CHECK(count == 20000 && waitpid(pid, &status, 0) == pid && status == 0);
}

static void environment(void) {
    CHECK(setenv("GUEST_TEST", "value", 1) == 0 && strcmp(getenv("GUEST_TEST"), "value") == 0);
    CHECK(unsetenv("GUEST_TEST") == 0 && !getenv("GUEST_TEST"));
}

static void memory_streams(void) {
    char *text;
    size_t length;
    FILE *f = open_memstream(&text, &length);
    CHECK(f && fprintf(f, "%s-%d", "built", 42) == 8 && fclose(f) == 0);
    CHECK(length == 8 && strcmp(text, "built-42") == 0);
    free(text);
}

int main(void) {
    mkdir("/tmp", 01777);
    snprintf(directory, sizeof directory, "/tmp/c-stdio.%d", (int)getpid());
    if (mkdir(directory, 0755) != 0 || chdir(directory) != 0) {
        perror(directory);
        return 1;
    }
    CASE(write_and_read_lines);
    CASE(seek_and_update);
    CASE(binary_blocks);
    CASE(errors_set_errno);
    CASE(buffering_modes);
    CASE(temporary_files);
    CASE(directories);
    CASE(streams_on_pipes);
    CASE(environment);
    CASE(memory_streams);
    unlink("lines"), unlink("update"), unlink("binary"), unlink("buffered");
    if (chdir("/") != 0 || rmdir(directory) != 0)
        printf("cannot remove %s\n", directory), check_failed++;
    return check_end();
}
