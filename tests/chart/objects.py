"""Reads rendered manifests from standard input as strictly as Kubernetes does, checks each object against the schemas of the versions
that are named as arguments, and prints all objects as JSON. What is wrong goes to standard error."""

import json
import sys

import kubernetes_validate
import yaml

# Kinds of others, whose schemas Kubernetes does not have.
FOREIGN = {"gateway.networking.k8s.io", "monitoring.coreos.com"}


class Strict(yaml.SafeLoader):
    """SafeLoader takes the last of two equal keys; the API server takes none."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def main():
    objects = [found for found in yaml.load_all(sys.stdin, Strict) if found is not None]
    faults, checked = [], 0
    for found in objects:
        name = f"{found['kind']}/{found['metadata']['name']}"
        if found["apiVersion"].split("/")[0] in FOREIGN:
            continue
        for version in sys.argv[1:]:
            try:
                kubernetes_validate.validate(found, version, strict=True)
                checked += 1
            except kubernetes_validate.ValidationError as error:
                faults.append(f"{name} at Kubernetes {version}: {error.message} at {list(error.path)}")
    print(json.dumps({"objects": objects, "checked": checked}))
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


sys.exit(main())
