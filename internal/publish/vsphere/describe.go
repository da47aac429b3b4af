package vsphere

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	vfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"nodesmith.dev/nodesmith/internal/publish"
)

// digestCategory is the category of the tag that is an image's digest.
const digestCategory = publish.TagDigest

// tagged are the types of objects that this project's categories may tag.
var tagged = []string{"VirtualMachine", "com.vmware.content.library.Item"}

// attributesWanted are the custom attributes of the template.
func (j *job) attributesWanted() map[string]string {
	wanted := j.image.Tags()
	maps.Copy(wanted, j.target.Attributes)
	return wanted
}

// tagsWanted are the tags of the template or item, by category.
func (j *job) tagsWanted() map[string]string {
	wanted := map[string]string{digestCategory: j.image.Digest.String()}
	maps.Copy(wanted, j.target.Tags)
	return wanted
}

// described says whether the machine has its attributes and tags.
func (j *job) described(ctx context.Context, m *machine) (bool, error) {
	has := m.attributes()
	for name, value := range j.attributesWanted() {
		if has[name] != value {
			return false, nil
		}
	}
	return j.hasTags(ctx, m.Self)
}

// hasTags says whether an object has the tags that are wanted.
func (j *job) hasTags(ctx context.Context, object mo.Reference) (all bool, err error) {
	err = j.withREST(ctx, func(c *rest.Client) error {
		m := tags.NewManager(c)
		attached, err := m.GetAttachedTags(ctx, object)
		if err != nil {
			return fmt.Errorf("list tags: %w", err)
		}
		has := map[[2]string]bool{}
		for _, t := range attached {
			category, err := m.GetCategory(ctx, t.CategoryID)
			if err != nil {
				return fmt.Errorf("list tags: %w", err)
			}
			has[[2]string{category.Name, t.Name}] = true
		}
		all = true
		for category, tag := range j.tagsWanted() {
			all = all && has[[2]string{category, tag}]
		}
		return nil
	})
	return all, err
}

// describe sets the custom attributes and the tags.
func (j *job) describe(ctx context.Context, _ *publish.Run) error {
	m, _, err := j.ready(ctx)
	if err != nil {
		return err
	}
	fields, err := object.GetCustomFieldsManager(j.Client)
	if err != nil {
		return fmt.Errorf("custom attributes: %w", err)
	}
	wanted, has := j.attributesWanted(), m.attributes()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if has[name] == wanted[name] {
			continue
		}
		key, err := attributeKey(ctx, fields, name)
		if err == nil {
			err = fields.Set(ctx, m.Self, key, wanted[name])
		}
		if err != nil {
			return fmt.Errorf("custom attribute %s: %w", name, err)
		}
	}
	return j.tag(ctx, m.Self)
}

// attributeKey finds a custom attribute, or makes it. Another run may do so at
// the same time.
func attributeKey(ctx context.Context, fields *object.CustomFieldsManager, name string) (int32, error) {
	find := func() (int32, error) { return fields.FindKey(ctx, name) }
	key, err := find()
	if !errors.Is(err, object.ErrKeyNameNotFound) {
		return key, err
	}
	def, err := fields.Add(ctx, name, "VirtualMachine", nil, nil)
	if vfault.Is(err, &types.DuplicateName{}) {
		return find()
	}
	if err != nil {
		return 0, err
	}
	return def.Key, nil
}

// tag attaches the tags that are wanted to an object.
func (j *job) tag(ctx context.Context, object mo.Reference) error {
	return j.withREST(ctx, func(c *rest.Client) error {
		m, wanted := tags.NewManager(c), j.tagsWanted()
		for _, category := range slices.Sorted(maps.Keys(wanted)) {
			id, err := tagID(ctx, m, category, wanted[category])
			if err == nil {
				err = m.AttachTag(ctx, id, object)
			}
			if err != nil {
				return fmt.Errorf("tag %s of category %s: %w", wanted[category], category, err)
			}
		}
		return nil
	})
}

// tagID finds a tag of a category, or makes them.
func tagID(ctx context.Context, m *tags.Manager, category, name string) (string, error) {
	in, err := findCategory(ctx, m, category)
	if err != nil {
		return "", err
	}
	categoryID := ""
	if in == nil {
		// MULTIPLE, since a replaced image's tag may still be there.
		categoryID, err = m.CreateCategory(ctx, &tags.Category{
			Name: category, Description: "made by nodesmith", Cardinality: "MULTIPLE", AssociableTypes: tagged,
		})
		if err != nil {
			return "", raced(err)
		}
	} else {
		categoryID = in.ID
	}
	t, err := findTag(ctx, m, categoryID, name)
	if err != nil || t != nil {
		if t != nil {
			return t.ID, nil
		}
		return "", err
	}
	id, err := m.CreateTag(ctx, &tags.Tag{Name: name, Description: "made by nodesmith", CategoryID: categoryID})
	return id, raced(err)
}

// raced is an error of making what another run, or a call whose answer was lost,
// made in the meantime: the next try finds it.
func raced(err error) error {
	if err != nil && rest.IsStatusError(err, http.StatusBadRequest) {
		return publish.Temporary(err)
	}
	return err
}

func findCategory(ctx context.Context, m *tags.Manager, name string) (*tags.Category, error) {
	all, err := m.GetCategories(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
	}
	return nil, nil
}

func findTag(ctx context.Context, m *tags.Manager, category, name string) (*tags.Tag, error) {
	all, err := m.GetTagsForCategory(ctx, category)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
	}
	return nil, nil
}

// addTagRemoval adds the step that takes away the tag of an image's digest, if a
// removal that was killed left it; the category, custom attributes and the user's
// tags stay for others.
func addTagRemoval(ctx context.Context, c *client, image digest.Digest, needs []string, plan *publish.Plan) error {
	var there bool
	err := c.withREST(ctx, func(session *rest.Client) error {
		t, err := digestTag(ctx, tags.NewManager(session), image)
		there = t != nil
		return err
	})
	if err != nil || !there {
		return err
	}
	plan.Steps = append(plan.Steps, publish.Step{
		ID: "remove/tag", Needs: needs, Action: publish.Delete, Kind: "tag", Name: image.String(),
		Do: func(ctx context.Context, _ *publish.Run) error { return dropTag(ctx, c, image) },
	})
	return nil
}

// digestTag finds the tag of an image's digest.
func digestTag(ctx context.Context, m *tags.Manager, image digest.Digest) (*tags.Tag, error) {
	category, err := findCategory(ctx, m, digestCategory)
	if err != nil || category == nil {
		return nil, err
	}
	return findTag(ctx, m, category.ID, image.String())
}

// detachTag takes the tag of an image's digest off a machine that is to go: the
// tag stays while something carries it.
func detachTag(ctx context.Context, c *client, image digest.Digest, ref mo.Reference) error {
	if image == "" {
		return nil
	}
	return c.withREST(ctx, func(session *rest.Client) error {
		m := tags.NewManager(session)
		t, err := digestTag(ctx, m, image)
		if err != nil || t == nil {
			return err
		}
		if err := m.DetachTag(ctx, t.ID, ref); err != nil {
			return fmt.Errorf("take the tag %s off: %w", t.Name, err)
		}
		return nil
	})
}

// dropTag takes away the tag of an image's digest if nothing carries it.
func dropTag(ctx context.Context, c *client, image digest.Digest) error {
	if image == "" {
		return nil
	}
	return c.withREST(ctx, func(session *rest.Client) error {
		m := tags.NewManager(session)
		t, err := digestTag(ctx, m, image)
		if err != nil || t == nil {
			return err
		}
		carriers, err := m.ListAttachedObjects(ctx, t.ID)
		if err != nil || len(carriers) > 0 {
			return err
		}
		if err := m.DeleteTag(ctx, t); err != nil && !rest.IsStatusError(err, http.StatusNotFound) {
			return fmt.Errorf("delete the tag %s: %w", t.Name, err)
		}
		return nil
	})
}
